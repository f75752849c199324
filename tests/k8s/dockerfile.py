"""What a Dockerfile says, and what a .dockerignore leaves of a folder: as much of both as ours use."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """From one FROM to the next."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, word):
        """What stands behind each instruction of this name."""
        return [rest for name, rest in self.instructions if name == word]

    def copies(self):
        """(stage that is copied from, or None for the build context; sources; destination)."""
        for rest in self.of("COPY"):
            words = shlex.split(rest)
            options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
            *sources, destination = [word for word in words if not word.startswith("--")]
            yield options.get("from"), sources, destination


def stages(path):
    """{name: Stage}, in the order of the file; ARGs before the first FROM are filled in."""
    text = re.sub(r"\\\n\s*(#.*\n\s*)*", " ", path.read_text(encoding="utf-8"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    arguments, found, current = {}, {}, None
    for line in lines:
        word, rest = line.split(None, 1)
        if word == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            for argument, value in arguments.items():
                base = base.replace(f"${{{argument}}}", value)
            current = found[name] = Stage(base)
        elif current is None:
            assert word == "ARG", line
            name, value = rest.split("=", 1)
            arguments[name] = value
        else:
            current.instructions.append((word, rest))
    return found


def chain(all_stages, name):
    """The stages that an image of this stage is made of, from its base image on."""
    stage = all_stages[name]
    return [*(chain(all_stages, stage.base) if stage.base in all_stages else ()), stage]


def pattern(words):
    """A line of .dockerignore as a regular expression: a path, or whatever lies under it."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    found = re.split(r"(\*\*/|\*\*|\*|\?)", words)
    return re.compile("".join(parts.get(part, re.escape(part)) for part in found) + "(?:/.*)?")


def context(folder, ignore, tracked):
    """Those of the ``tracked`` paths that the build context has: the last line that fits decides."""
    lines = [line.strip() for line in Path(folder, ignore).read_text(encoding="utf-8").splitlines()]
    rules = [(line.startswith("!"), pattern(line.lstrip("!"))) for line in lines if line and line[0] != "#"]

    def kept(path):
        keep = True
        for keeps, rule in rules:
            if rule.fullmatch(path):
                keep = keeps
        return keep

    return [path for path in tracked if kept(path)]
