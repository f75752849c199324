"""Build every overlay and check it, without a cluster.

KUBERAY_CRDS=../shared/kuberay-crds python -m k8s.check
"""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from k8s.check import overlay as overlays
from k8s.check.overlay import BuildError, Fault, Overlay

Check = Callable[[Overlay], Iterator[Fault]]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def checks() -> list[Check]:
    """All of them."""
    from k8s.check.commands import check_commands
    from k8s.check.exposure import check_exposure
    from k8s.check.operator import check_operator
    from k8s.check.references import check_references
    from k8s.check.resources import check_resources
    from k8s.check.schemas import check_schemas
    from k8s.check.secrets import check_secrets
    from k8s.check.security import check_security
    from k8s.check.versions import check_versions

    return [
        check_schemas,
        check_operator,
        check_security,
        check_exposure,
        check_references,
        check_resources,
        check_versions,
        check_commands,
        check_secrets,
    ]


def faults_of(overlay: Overlay) -> list[Fault]:
    """Everything that is wrong with it; where a schema refuses an object, only that, for the rest builds on it."""
    faults: list[Fault] = []
    for check in checks():
        try:
            faults += check(overlay)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            told = f"stumbles over a wrong type, {error}; with schemas at hand it would be named"
            faults.append(overlay.fault(None, check.__name__, told))
        if faults and check.__name__ == "check_schemas":
            break
    return faults


@app.command()
def main(
    names: Annotated[
        list[str] | None, typer.Argument(help="Overlays; all unless given.", show_default=False)
    ] = None,
) -> None:
    """Build overlays and check them, offline. Each fault names file, object and path."""
    from k8s.check.schemas import CRDS_VARIABLE, unchecked

    failed = False
    for name in names or overlays.names():
        try:
            overlay = overlays.build(name)
        except BuildError as error:
            typer.echo(f"error: k8s/overlays/{name}: {error}", err=True)
            failed = True
            continue
        faults = faults_of(overlay)
        for fault in faults:
            typer.echo(f"error: {fault}", err=True)
        failed |= bool(faults)
        typer.echo(
            f"{name}: {len(overlay.objects)} objects, {len(overlay.pods)} pod templates, {len(faults)} faults"
        )
        if skipped := unchecked(overlay):
            variable = "" if os.environ.get(CRDS_VARIABLE) else f"; set {CRDS_VARIABLE} to a folder of CRDs"
            typer.echo(f"{name}: skipped the schemas of {', '.join(skipped)}{variable}")
    raise typer.Exit(failed)


if __name__ == "__main__":
    sys.exit(app())
