"""Opens a page in the person's browser, where there is one to see it in.

A browser in the terminal (lynx, w3m) would take it, and knows no passkeys: without a display nothing is opened
unless `$BROWSER` names what to open it with.
"""

import os
import sys
import threading
import webbrowser
from typing import Final

_DISPLAYS: Final = ("DISPLAY", "WAYLAND_DISPLAY")


def open_browser(url: str) -> bool:
    """Has the system's browser open `url`; whether there is one. The browser may take as long as it likes."""
    seen = sys.platform in {"darwin", "win32"} or any(os.environ.get(each) for each in _DISPLAYS)
    if not seen and not os.environ.get("BROWSER"):
        return False
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    threading.Thread(target=browser.open, args=(url,), daemon=True, name="browser").start()
    return True
