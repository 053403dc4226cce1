"""The page in a browser: pictures are named, a class is learnt and renamed, and a name that is HTML stays text."""

from __future__ import annotations

import json
import shutil

import pytest
from test_server import running  # noqa: F401 - a fixture
from web_service import picture, program, until

pytestmark = pytest.mark.slow
SIZES = ((1280, 900), (390, 844))


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def text(browser, selector):
    """The text of the elements, by script: an element may be replaced while it is asked for."""
    return browser.execute_script(
        f"return [...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent).join('\\n')"
    )


def loud(browser):
    """What the browser complains about; a refused request is logged too."""
    return [entry["message"] for entry in browser.get_log("browser") if "status of 4" not in entry["message"]]


LEARNS = """
import shutil, sys, time
place, folder, _ = sys.argv[1:]
for percent in (10, 40, 70):
    print("progress", percent, "training", flush=True)
    time.sleep(0.7)
shutil.rmtree(place)
shutil.copytree({second!r}, place)
"""


def test_a_person_names_pictures_and_adds_and_sees_classes(running, browser, saved, two_learners, tmp_path):  # noqa: F811
    files = []
    for seed in range(3):
        files.append(tmp_path / f"picture {seed}.png")
        files[-1].write_bytes(picture(seed, 64))
    broken = tmp_path / "broken <i>.png"
    broken.write_bytes(b"no picture")
    (saved / "report.html").write_text("<h1>The report</h1>")
    learn = program(tmp_path, LEARNS.format(second=str(two_learners[1])))
    with running(saved, learn=learn) as server:
        browser.get(f"http://127.0.0.1:{server.port}/")
        until(lambda: "4 classes" in text(browser, "#about"))
        assert text(browser, "#name") == "saved" and len(find(browser, "#classes tr")) == 4
        # -- naming
        find(browser, "#pictures")[0].send_keys("\n".join(map(str, [*files, broken])))
        until(lambda: len(find(browser, ".card .bars")) == 3 and len(find(browser, ".card .error")) == 1)
        assert "cannot read" in text(browser, ".card .error") and "broken <i>.png" in text(browser, ".file")
        _, answer = server.ask("/predict?topk=5", files[0].read_bytes())
        (card,) = [card for card in find(browser, ".card") if "picture 0.png" in card.text]
        for each in answer["images"][0]["names"]:
            assert f"{100 * each['score']:.1f} %" in card.text
        assert find(browser, ".verdict") == []  # this learner cannot tell
        # -- a class
        find(browser, "#new-name")[0].send_keys("-bad")
        find(browser, "#class-pictures")[0].send_keys(str(files[0]))
        browser.execute_script("document.getElementById('learn').click()")
        until(lambda: "may not begin with -" in text(browser, "#job-text"))
        find(browser, "#new-name")[0].clear()
        find(browser, "#new-name")[0].send_keys("four")
        browser.execute_script("document.getElementById('learn').click()")
        until(lambda: find(browser, "#job-bar")[0].is_displayed() and "training" in text(browser, "#job-text"))
        until(lambda: "is learnt" in text(browser, "#job-text"))
        until(lambda: len(find(browser, "#classes tr")) == 6)
        assert "<b>" in text(browser, "#classes .name") and find(browser, "#classes .name b") == []
        assert loud(browser) == []
        # -- cancelling
        find(browser, "#class-pictures")[0].send_keys(str(files[0]))
        find(browser, "#new-name")[0].send_keys("seven")
        browser.execute_script("document.getElementById('learn').click()")
        until(lambda: find(browser, "#cancel")[0].is_displayed())
        browser.execute_script("document.getElementById('cancel').click()")
        until(lambda: "cancelled" in text(browser, "#job-text"))
        asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        addresses = {
            each["params"]["request"]["url"] for each in asked if each["method"] == "Network.requestWillBeSent"
        }
        assert {address.split("/")[2] for address in addresses if address.startswith("http")} == {
            f"127.0.0.1:{server.port}"
        }


SCRIPT = "<script>document.title='caught'</script>"


def test_the_page_fits_a_phone_and_shows_the_verdict_and_names_as_text(running, browser, saved, tmp_path):  # noqa: F811
    """Answers stand in for a learner that tells unknown images, with names that are HTML, long, and in other writings."""
    names = [SCRIPT, "<img src=x onerror=alert(1)>", "x" * 90, "犬 كلب", "an ordinary name"]
    records = [{"name": name, "task": 12, "images": 12345, "learnt": "2026-11-30T10:00:00+00:00"} for name in names]
    stand_in = f"""
    const real = window.fetch, type = {{"Content-Type": "application/json"}};
    const json = (value) => new Response(JSON.stringify(value), {{headers: type}});
    const named = {json.dumps(names)}.map((name) => ({{name, score: 0.2}}));
    window.fetch = async (path, options) => {{
      if (path.startsWith("predict")) return json({{images: [{{unknown: true, names: named}}]}});
      if (path === "classes") return json({{learner: "x", classes: {json.dumps(records)}}});
      if (path === "health") {{
        const health = await (await real(path, options)).json();
        return json({{...health, learner: "x", report: true, trouble: "a <b> is damaged"}});
      }}
      return real(path, options);
    }};
    """
    (tmp_path / "picture.png").write_bytes(picture(1, 64))
    with running(saved) as server:
        added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": stand_in})
        try:
            for width, height in SIZES:
                browser.execute_cdp_cmd(
                    "Emulation.setDeviceMetricsOverride",
                    {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
                )
                browser.get(f"http://127.0.0.1:{server.port}/")
                until(lambda: len(find(browser, "#classes tr")) == 5)
                find(browser, "#pictures")[0].send_keys(str(tmp_path / "picture.png"))
                until(lambda: text(browser, ".verdict") == "none of these")
                assert SCRIPT in text(browser, "#classes .name") and SCRIPT in text(browser, ".bars")
                find(browser, "#classes button")[0].click()
                assert find(browser, "#classes input")[0].get_attribute("value") == SCRIPT
                assert browser.title == "saved" and find(browser, "main script") == find(browser, ".name img") == []
                assert "a <b> is damaged" in text(browser, "#trouble")
                wide = browser.execute_script("return document.documentElement.scrollWidth")
                assert wide <= width, (wide, width)
        finally:
            browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
