"""`python -m gmvae_drit translate`: files in, files out.

An image that cannot be read or does not fit into memory is set aside and reported at the end; whatever else goes
wrong (an option, a reference, the model, a folder that cannot be written) ends the run at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gmvae_drit.devices import choose_device
from gmvae_drit.errors import ModelError
from gmvae_drit.export import load_export
from gmvae_drit.images import read_image
from gmvae_drit.inputs import Input, batches, find_inputs, list_images
from gmvae_drit.options import TranslateOptions
from gmvae_drit.outputs import Files, Grid, Output
from gmvae_drit.styles import Draws, Style, check_components, reference_code, way
from gmvae_drit.translate import OutOfMemory, Renderer
from gmvae_drit.translator import Translator

FRAMES = 9
FAR_LARGER = 4
"""Images larger than the training images by this factor are worth a remark."""

StylesOf = Callable[[str], list[Style]]


@dataclass
class Outcome:
    """What became of the images."""

    summary: str = ""
    translated: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def translate_files(options: TranslateOptions) -> Outcome:
    """Translate all images of `options.sources`. Raises ModelError where nothing, or nothing more, can be done."""
    _check_together(options)
    device = choose_device(options.device, options.precision)
    inputs = find_inputs(options.sources, options.out)[: options.limit]
    translator, config = load_export(options.model)
    domains = choose_domains(options.to, config.domains)
    _check_names(inputs, domains)
    renderer = Renderer(translator, device, options.batch_size, options.seed)
    if options.references:
        styles_of = _by_references(translator, options, domains, config.image_size)
    else:
        styles_of = _by_draws(translator, options, domains)

    names = {
        (style.domain, style.name): f"{config.domains[style.domain]}-{style.name}" for style in styles_of("")
    }
    output: Output
    files = Files(options.out, f".{options.format}", options.interpolate)
    if options.grid is None:
        files.check(inputs, list(names.values()))
    output = files if options.grid is None else Grid(options.grid)
    todo = inputs
    if options.skip_existing:
        todo = [i for i in inputs if not all(p.exists() for n in names.values() for p in files.paths(i, n))]

    outcome = Outcome()
    large = 0

    def refused(item: Input, reason: str) -> None:
        if options.strict:
            raise ModelError(reason)
        outcome.failures.append(reason)
        progress.advance(bar)

    def shape(image: torch.Tensor) -> tuple[int, int]:
        nonlocal large
        renderer.check_room(image)
        large += min(image.shape[1:]) >= FAR_LARGER * config.image_size
        return renderer.padded_size(image)

    with _progress() as progress:
        bar = progress.add_task("translating", total=len(todo))
        for batch in batches(todo, options.size, options.batch_size, shape, refused):
            items, images = zip(*batch, strict=True)
            styles = [styles_of(item.key) for item in items]
            done = 0
            try:
                for i, style, frames in renderer.render(images, styles):
                    output.write(items[i], images[i], names[style.domain, style.name], frames)
                    if style is styles[i][-1]:
                        done += 1
                        progress.advance(bar)
            except OutOfMemory as error:
                for item in items[done:]:
                    refused(item, f"{item.path}: {error}")
            outcome.translated += done
        output.finish()

    target = options.grid or options.out
    outcome.summary = f"{outcome.translated} x {len(names)} translations to {', '.join(domains)}: {target}"
    if len(todo) < len(inputs):
        outcome.summary += f" (had theirs already: {len(inputs) - len(todo)})"
    if large:
        outcome.notes.append(
            f"{FAR_LARGER} times as large as the images of the training, or more: {large}; "
            f"--size {config.image_size} shows them as the model knows them"
        )
    return outcome


def choose_domains(asked: tuple[str, ...], known: tuple[str, ...]) -> dict[str, int]:
    """Names and indices of the domains `asked` for; `all` is every one, unless a domain is called so."""
    if asked == ("all",) and "all" not in known:
        asked = known
    for name in asked:
        if name not in known:
            raise ModelError(f"--to {name}: this model knows the domains {', '.join(known)}")
    return {name: known.index(name) for name in asked}


def _check_together(options: TranslateOptions) -> None:
    """Raise ModelError for options that contradict each other."""
    if options.references and options.components:
        raise ModelError(
            "--reference and --component exclude each other: a reference brings its own attribute"
        )
    if options.references and (options.samples is not None or options.fresh_draws):
        raise ModelError("--samples and --fresh-draws are for draws: a reference brings its own attribute")
    if options.references and len(set(options.to)) + ("all" in options.to) > 1:
        raise ModelError("--reference needs one --to: a reference shows one domain")
    if options.frames is not None and options.interpolate is None:
        raise ModelError("--frames needs --interpolate")
    if options.grid is not None and options.interpolate is not None:
        raise ModelError("--grid and --interpolate exclude each other: a strip is a picture of its own")
    if options.grid is not None and options.skip_existing:
        raise ModelError("--grid and --skip-existing exclude each other: a grid is made whole")


def _check_names(inputs: list[Input], domains: dict[str, int]) -> None:
    """Raise ModelError if two translations would have one file name: `a` to `b-c`, and `a-b` to `c`."""
    prefixes: dict[str, Path] = {}
    for item in inputs if len(domains) > 1 else []:
        for domain in domains:
            other = prefixes.setdefault(f"{item.name}-{domain}", item.path)
            if other != item.path:
                raise ModelError(
                    f"{other} and {item.path}: translations would share a name; use one --to at a time"
                )


def _by_references(
    translator: Translator, options: TranslateOptions, domains: dict[str, int], trained_size: int
) -> StylesOf:
    """References are read at the size of the training images: attributes are statistics of such images."""
    (domain,) = domains.values()
    paths = [path for source in options.references for path in list_images(source)]
    size = options.size or trained_size
    codes = [reference_code(translator, read_image(path, size), domain) for path in paths]
    unique = len({path.stem for path in paths}) == len(paths)
    names = [path.stem if unique else f"{i}-{path.stem}" for i, path in enumerate(paths)]
    if options.interpolate is None:
        styles = [Style(domain, f"by-{name}", code) for name, code in zip(names, codes, strict=True)]
    elif len(codes) > 1:
        frames = _way_length(options, len(codes))
        styles = [Style(domain, f"by-{'-'.join(names)}", way(torch.cat(codes), frames))]
    else:
        raise ModelError("--interpolate needs two references or two components")
    return lambda image: styles


def _by_draws(translator: Translator, options: TranslateOptions, domains: dict[str, int]) -> StylesOf:
    components = check_components(translator, options.components)
    if options.interpolate is not None and len(components) < 2:
        raise ModelError("--interpolate needs two references or two components")
    samples = options.samples or (len(components) if options.interpolate is None else 1)
    draws = [
        Draws(domain, name, components, samples, options.temperature, options.seed)
        for name, domain in domains.items()
    ]

    frames = _way_length(options, len(components))

    def styles_of(image: str) -> list[Style]:
        if options.interpolate is None:
            return [style for d in draws for style in d.styles(translator, image)]
        return [style for d in draws for style in d.ways(translator, frames, image)]

    if options.fresh_draws:
        return styles_of
    for_all = styles_of("")
    return lambda image: for_all


def _way_length(options: TranslateOptions, ends: int) -> int:
    """Frames of a way through so many `ends`."""
    return (ends - 1) * ((options.frames or FRAMES) - 1) + 1


def _progress() -> Progress:
    """A bar for who watches, nothing where the output is not a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
