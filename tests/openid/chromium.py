"""The same person as browser.py, in real Chromium: `python chromium.py USER PASSWORD URL` as `$BROWSER`."""

import sys
import tempfile
from urllib.parse import urlsplit

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
SECONDS = 60
MOST_PAGES = 4


def visit(url: str, user: str, password: str) -> str:
    """Logs in and agrees; answers what the page says that the person ends at."""
    with tempfile.TemporaryDirectory() as profile:
        options = ChromeOptions()
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.binary_location = "/usr/bin/chromium"
        driver = Chrome(options=options, service=ChromeService("/usr/bin/chromedriver"))
        try:
            driver.set_page_load_timeout(SECONDS)
            driver.get(url)
            for _ in range(MOST_PAGES):
                if urlsplit(driver.current_url).path == "/gloam":
                    break
                _answer(driver, user, password)
            return driver.find_element(By.TAG_NAME, "body").text
        finally:
            driver.quit()


def _answer(driver: WebDriver, user: str, password: str) -> None:
    """Fills in the page's form, if it has fields, and sends it; returns at the next page."""
    page = driver.find_element(By.ID, "go")
    for name, value in (("login", user), ("password", password)):
        for field in driver.find_elements(By.NAME, name):
            field.send_keys(value)
    page.click()
    WebDriverWait(driver, SECONDS).until(lambda _: _gone(driver, page.id))


def _gone(driver: WebDriver, before: str) -> bool:
    """Whether the page with that button is another one by now."""
    return all(each.id != before for each in driver.find_elements(By.ID, "go"))


if __name__ == "__main__":
    sys.stderr.write(visit(sys.argv[3], sys.argv[1], sys.argv[2]) + "\n")
