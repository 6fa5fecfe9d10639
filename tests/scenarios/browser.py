"""Debian's Chromium with a virtual authenticator, driven as a person would use it."""

import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 60
"""A machine may be busy; what is waited for comes within one."""

OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    # Whatever it would look for elsewhere: it must find nothing but this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
)  # fmt: skip


class Browser:
    """One browser with one authenticator that knows its owner, until told otherwise. Every method waits."""

    def __init__(self, profile: Path) -> None:
        browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if browser is None or driver is None:
            pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
        options = webdriver.ChromeOptions()
        for option in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.binary_location = browser
        self._driver = webdriver.Chrome(options=options, service=Service(driver))
        self._driver.set_page_load_timeout(SECONDS)
        self.plug_in()

    def close(self) -> None:
        """Ends the browser and its driver."""
        self._driver.quit()

    def plug_in(self) -> None:
        """A new authenticator, with nothing in it."""
        if self._driver.virtual_authenticator_id is not None:
            self._driver.remove_virtual_authenticator()
        self._driver.add_virtual_authenticator(
            VirtualAuthenticatorOptions(
                protocol="ctap2",
                transport="usb",
                has_resident_key=True,
                has_user_verification=True,
                is_user_verified=True,
            )
        )

    def know_owner(self, *, known: bool) -> None:
        """Whether the authenticator recognises who touches it."""
        self._driver.set_user_verified(known)

    def go_back(self) -> None:
        """The authenticator's counter goes back, as a copy's would."""
        (credential,) = self._driver.get_credentials()
        self._driver.remove_all_credentials()
        credential._sign_count = 0  # the next use counts as the first one did
        self._driver.add_credential(credential)

    def open(self, url: str) -> str:
        """Opens a page; its title."""
        self._driver.get(url)
        return self._driver.title

    def press(self) -> None:
        """Presses the page's button."""
        button = self._driver.find_element(By.ID, "go")
        WebDriverWait(self._driver, SECONDS).until(lambda _: button.is_enabled())
        button.click()

    def told(self, kind: str) -> str:
        """What the page says, once it is good or bad news."""
        WebDriverWait(self._driver, SECONDS).until(lambda d: d.find_elements(By.CSS_SELECTOR, f"#told.{kind}"))
        return self._driver.find_element(By.ID, "told").text

    def text(self) -> str:
        """All of the page."""
        return self._driver.find_element(By.TAG_NAME, "main").text
