"""Chromium without a window, and the form of a Prefect deployment in it, in either of Prefect's two UIs."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from own_server import Server

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1200,900",
)  # fmt: skip
UIS = {"v1": "", "v2": "/v2"}  # where the server has them
VALIDATE = {"v1": "Validate parameters", "v2": "Enforce Parameter Schema"}


class Browser:
    """A Chromium of its own, with nothing in its profile."""

    def __init__(self, folder: Path) -> None:
        webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
        if CHROMIUM is None or DRIVER is None:
            pytest.skip("chromium and chromedriver are not installed (apt-get install chromium chromium-driver)")
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (*QUIET, f"--user-data-dir={tempfile.mkdtemp(dir=folder)}"):
            options.add_argument(argument)
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))

    def close(self) -> None:
        self.driver.quit()


class FormPage:
    """The page *Custom run* of a deployment."""

    def __init__(self, browser: Browser, server: Server, ui: str, deployment: str) -> None:
        self.driver, self.server, self.ui = browser.driver, server, ui
        self.deployment = server.deployment(deployment)
        place = f"{UIS[ui]}/deployments/deployment/{self.deployment['id']}/run"
        self.driver.get(server.url.removesuffix("/api") + place)
        wait_for("the form", lambda: self.shows("Further settings (Optional)") and self._button("Submit") is not None)

    @property
    def text(self) -> str:
        return str(self.driver.execute_script("return document.querySelector('form').innerText"))

    @property
    def height(self) -> int:
        return int(self.driver.execute_script("return document.querySelector('form').scrollHeight"))

    def shows(self, words: str) -> bool:
        return bool(self._having(words))

    def type(self, label: str, value: str) -> None:
        """Write into the field with this label."""
        field = self._field(label).find_element("css selector", "input, textarea")
        field.send_keys(value)
        wait_for(f"{value!r} to be in its field", lambda: field.get_attribute("value") == value)

    def clear(self, label: str) -> None:
        """Empty the field with this label, as a person does."""
        field = self._field(label).find_element("css selector", "input, textarea")
        field.send_keys("\ue003" * len(field.get_attribute("value")))  # backspace
        wait_for(f"{label} to be empty", lambda: field.get_attribute("value") == "")

    def choose(self, label: str, option: str) -> None:
        """Choose from the field with this label: the system's own, or one that the UI draws."""
        field = self._field(label)
        if own := field.find_elements("css selector", "select"):
            own[0].find_element("xpath", f"option[.='{option}']").click()
            return
        field.find_element("css selector", "button").click()
        wait_for(f"the choice {option!r}", lambda: self._option(option) is not None)
        self._option(option).click()
        wait_for(f"{option!r} to be chosen", lambda: option in self._field(label).text)

    def untick_validation(self) -> None:
        self._having(VALIDATE[self.ui])[-1].click()

    def submit(self) -> Any:
        """Press the button; gives the run that the server has made of it. A server that is too busy for its database
        refuses (503), of which the UI tells, and a person presses again."""
        before = {run["id"] for run in self._runs()}

        def made() -> list[Any]:
            return [run for run in self._runs() if run["id"] not in before]

        for _ in range(4):
            self.press_submit()
            with suppress(AssertionError):
                wait_for("a run on the server", lambda: len(made()) > 0, 30)
                break
        assert len(made()) > 0, self.refusal or "nothing happens"
        return made()[0]

    def press_submit(self) -> None:
        """Press the button, even if a message lies over it."""
        wait_for("the button", lambda: self._button("Submit") is not None)
        self.driver.execute_script("arguments[0].click()", self._button("Submit"))

    @property
    def refusal(self) -> str:
        """What the page says is wrong: the browser of a field, or the UI, for some seconds, of the server's answer."""
        field = self.driver.execute_script(
            "return document.querySelector('form input:invalid')?.validationMessage ?? ''"
        )
        said = self.driver.find_element("tag name", "body").text.splitlines()
        return " ".join([field, *(line for line in said if "error" in line.lower() or "went wrong" in line)]).strip()

    def _runs(self) -> list[Any]:
        wanted = {"deployments": {"id": {"any_": [self.deployment["id"]]}}}
        return list(self.server.api("/flow_runs/filter", wanted))

    def _button(self, text: str) -> Any:
        return self._first(lambda: self.driver.find_elements("xpath", f"//button[normalize-space()='{text}']"))

    def _having(self, words: str) -> list[Any]:
        return list(self.driver.find_elements("xpath", f'//*[text()[normalize-space()="{words}"]]'))

    def _field(self, label: str) -> Any:
        place = f'//*[text()[normalize-space()="{label} (Optional)"]]/following::fieldset[1]'
        return self.driver.find_element("xpath", place)

    def _option(self, text: str) -> Any:
        return self._first(
            lambda: self.driver.find_elements("xpath", f"//*[@role='option'][normalize-space()='{text}']")
        )

    def _first(self, find: Callable[[], list[Any]]) -> Any:
        return next((found for found in find() if found.is_displayed()), None)
