"""Showing an authenticator's secret: as a QR code at the terminal, as a PNG, and as text. It is kept nowhere else."""

import io
import os
import sys
from pathlib import Path

import segno

from console.errors import CommandError
from console.output import Output

SCALE = 8  # pixels a module: a telephone reads it from a screen at arm's length


def show_authenticator(uri: str, output: Output, png: Path | None, *, drawn: bool = True) -> None:
    """Shows the secret in `uri`. Raises CommandError if the PNG cannot be written."""
    code = segno.make(uri, error="l", micro=False)
    if png is not None:
        _write(code, png)
        output.say(f"The QR code is in {png}: scan it with an authenticator app, then remove the file.")
    elif drawn:
        terminal = io.StringIO()
        code.terminal(out=terminal, compact=True, border=2)
        # segno draws with the terminal's own colours, so it goes past the console that would escape them.
        sys.stdout.write(f"Scan this with an authenticator app, once:\n\n{terminal.getvalue()}\n")
        sys.stdout.flush()
    output.say(f"or give it this text: {uri}" if drawn else uri)


def _write(code: segno.QRCode, png: Path) -> None:
    """A new file that only its owner reads: what is there already is left alone."""
    image = io.BytesIO()
    code.save(image, kind="png", scale=SCALE)
    try:
        descriptor = os.open(png, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(image.getvalue())
    except FileExistsError:
        raise CommandError(f"{png} is there already", "name a file that is not") from None
    except OSError as error:
        raise CommandError(
            f"{png} cannot be written: {error.strerror}", "name a file in a directory of yours"
        ) from error
