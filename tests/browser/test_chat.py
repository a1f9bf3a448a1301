"""The page in a real browser: a person and the bot, a person and a person, a router that dies between them."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.conftest import CONFIG, Demo, OpenPage
from tests.conftest import StartServer

__all__: list[str] = []

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

HOSTILE = '<img src=x onerror="window.broken = 1"><script>window.broken = 2</script>'


def say(page: Page, text: str) -> None:
    page.bring_to_front()
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_label("Message", exact=True).press("Enter")


def mine(page: Page) -> Locator:
    return page.locator("#lines .mine:not(.notice)")


def theirs(page: Page) -> Locator:
    return page.locator("#lines .theirs:not(.notice)")


def texts(lines: Locator) -> list[str]:
    return lines.locator(".text").all_text_contents()


def ask_for_a_person(page: Page) -> None:
    page.get_by_role("button", name="Speak to a person").click()
    expect(page.locator("#lines .notice")).to_have_text(re.compile("A person at acme"))


def test_a_person_chats_with_the_bot(open_page: OpenPage) -> None:
    page = open_page("?as=ui")
    expect(page.get_by_role("status")).to_have_text("Connected")
    expect(page.get_by_role("heading", level=1)).to_have_text("The bot")
    say(page, "hello")
    expect(theirs(page)).to_contain_text("I am a bot")
    expect(mine(page).locator(".state")).to_have_text("Read")
    say(page, "once more")
    expect(theirs(page).last).to_contain_text("You said: once more")
    assert texts(mine(page)) == ["hello", "once more"]


def test_a_message_is_kept_until_somebody_reads_it_and_a_person_takes_over(open_page: OpenPage) -> None:
    ui = open_page("?as=ui&name=Ada")
    ask_for_a_person(ui)
    say(ui, "Is anybody there?")
    expect(mine(ui).last.locator(".state")).to_have_text("Kept by the router")

    livechat = open_page("?as=livechat&name=Grace")
    expect(livechat.locator("#lines .notice")).to_contain_text("Ada asks for a person.")
    expect(theirs(livechat)).to_have_text(re.compile("Is anybody there"))
    expect(mine(ui).last.locator(".state")).to_have_text("Read")
    say(livechat, "I am here.")
    ui.bring_to_front()
    expect(theirs(ui).last).to_contain_text("I am here.")
    expect(ui.get_by_role("heading", level=1)).to_have_text("Grace")
    expect(mine(livechat).locator(".state")).to_have_text("Read")

    livechat.bring_to_front()
    livechat.get_by_role("button", name="Hand back to the bot").click()
    ui.bring_to_front()
    expect(ui.get_by_role("heading", level=1)).to_have_text("The bot")
    say(ui, "and now?")
    expect(theirs(ui).last).to_contain_text("You said: and now?")
    assert "and now?" not in texts(theirs(livechat))


def test_a_killed_router_loses_and_doubles_no_line(open_page: OpenPage, demo: Demo) -> None:
    ui = open_page("?as=ui&name=Ada")
    ask_for_a_person(ui)
    livechat = open_page("?as=livechat&name=Grace")
    expect(livechat.locator("#lines .notice")).to_contain_text("asks for a person")
    said: list[str] = []
    answered: list[str] = []
    for round_ in range(3):
        said.append(f"question {round_} before the end")
        say(ui, said[-1])
        demo.kill()
        said.append(f"question {round_} without a router")
        say(ui, said[-1])
        answered.append(f"answer {round_} without a router")
        say(livechat, answered[-1])
        expect(mine(livechat).last.locator(".state")).to_have_text("Waiting for the connection…")
        expect(ui.get_by_role("status")).to_have_text(re.compile(r"Trying again in \d+ s|Connecting…"))
        demo.start()
        for page in (ui, livechat):
            page.bring_to_front()
            page.evaluate("dispatchEvent(new Event('online'))")
            expect(page.get_by_role("status")).to_have_text("Connected")
        livechat.bring_to_front()
        expect(theirs(livechat)).to_have_count(len(said))
        expect(mine(livechat).last.locator(".state")).to_have_text(re.compile("Kept by the router|Read"))
        ui.bring_to_front()
        expect(theirs(ui)).to_have_count(len(answered) + 1)  # the bot's, before the person
        expect(mine(ui).locator(".state")).to_have_text(["Read"] * (len(said) + 1))

    assert texts(mine(ui)) == ["human", *said]
    assert texts(theirs(livechat)) == said
    assert texts(theirs(ui))[1:] == answered
    for page, ours, others in ((ui, mine(ui), theirs(ui)), (livechat, mine(livechat), theirs(livechat))):
        before = (texts(ours), texts(others))
        page.reload()
        page.locator("body[data-connection=open]").wait_for()
        assert (texts(ours), texts(others)) == before


@pytest.mark.fault
def test_many_kills_in_the_middle_of_many_lines(open_page: OpenPage, demo: Demo) -> None:
    """Half of each round's lines are on their way when the router dies, the other half is written while it is gone."""
    ui = open_page("?as=ui&name=Ada")
    ask_for_a_person(ui)
    livechat = open_page("?as=livechat&name=Grace")
    expect(livechat.locator("#lines .notice")).to_contain_text("asks for a person")
    write = """([from, upto]) => {
        for (let number = from; number < upto; number++) {
            document.getElementById("text").value = `line ${number}`;
            document.getElementById("form").requestSubmit();
        }
    }"""
    for start in range(0, 200, 20):
        for page in (ui, livechat):
            page.evaluate(write, [start, start + 10])
        demo.kill()
        for page in (ui, livechat):
            page.evaluate(write, [start + 10, start + 20])
        demo.start()
        for page in (ui, livechat):
            page.evaluate("dispatchEvent(new Event('online'))")
    expected = [f"line {number}" for number in range(200)]
    for page, others in ((livechat, theirs(livechat)), (ui, theirs(ui))):
        page.bring_to_front()
        expect(others.last.locator(".text")).to_have_text(expected[-1], timeout=30_000)
        assert [text for text in texts(others) if text.startswith("line ")] == expected


def test_a_router_that_goes_in_good_order_is_waited_for(open_page: OpenPage, demo: Demo) -> None:
    page = open_page("?as=ui")
    say(page, "before")
    expect(theirs(page)).to_have_count(1)
    assert demo.server.stop() == 0
    expect(page.get_by_role("status")).to_have_text(re.compile(r"Trying again in \d+ s|Connecting…"))
    say(page, "meanwhile")
    demo.start()
    expect(page.get_by_role("status")).to_have_text("Connected", timeout=15_000)
    expect(theirs(page)).to_have_count(2)
    assert texts(mine(page)) == ["before", "meanwhile"]


def test_with_authentication_the_page_needs_a_token(
    context: BrowserContext, start_server: StartServer, tmp_path: Path
) -> None:
    tokens = [("page-token-0123456789", "ui/456/ada"), ("bot-token-0123456789", "agent/456/bot")]
    auth = "".join(f'\n[[auth.tokens]]\ntoken = "{token}"\nsubject = "{subject}"\n' for token, subject in tokens)
    config = tmp_path / "guarded.toml"
    config.write_text(CONFIG.read_text() + auth)
    server = start_server("--config", str(config), "--demo")
    page = context.new_page()
    page.goto(f"{server.url}/?as=ui&id=ada")
    expect(page.get_by_role("status")).to_contain_text("asks for a valid token")
    page.goto(f"{server.url}/?as=ui&id=ada#token=page-token-0123456789")
    page.reload()
    expect(page.get_by_role("status")).to_have_text("Connected")
    assert "token" not in page.url
    say(page, "may I?")
    expect(theirs(page)).to_contain_text("You said: may I?")
    other = context.new_page()
    other.goto(f"{server.url}/?as=ui&id=somebody#token=page-token-0123456789")
    expect(other.get_by_role("status")).to_contain_text("does not let you in")


def test_what_others_write_is_text_and_nothing_else(open_page: OpenPage) -> None:
    ui = open_page(f"?as=ui&name={HOSTILE.replace('<', '%3C').replace('>', '%3E')}")
    ask_for_a_person(ui)
    livechat = open_page("?as=livechat&name=%3Cb%3EGrace%3C/b%3E")
    say(ui, HOSTILE)
    livechat.bring_to_front()
    expect(theirs(livechat).locator(".text")).to_have_text(HOSTILE)
    expect(livechat.locator("#conversations .name")).to_contain_text("<img src=x")
    say(livechat, HOSTILE)
    ui.bring_to_front()
    expect(theirs(ui).last.locator(".text")).to_have_text(HOSTILE)
    expect(ui.get_by_role("heading", level=1)).to_have_text("<b>Grace</b>")
    for page in (ui, livechat):
        assert page.locator("#lines :is(img, script, b), #conversations :is(img, script, b)").count() == 0
        assert page.evaluate("window.broken") is None


def test_the_policy_holds_in_the_browser(open_page: OpenPage) -> None:
    page = open_page("?as=ui")
    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<p>markup'")


def test_what_the_router_refuses_says_why_and_can_be_tried_again(open_page: OpenPage) -> None:
    page = open_page("?as=ui")
    page.get_by_label("Message", exact=True).evaluate("field => field.removeAttribute('maxlength')")
    say(page, "x" * 70_000)
    line = mine(page)
    expect(line.locator(".state")).to_have_text("Not sent")
    expect(line.locator(".reason")).to_contain_text("65536")
    line.get_by_role("button", name="Try again").click()
    expect(line.locator(".state")).to_have_text("Not sent")
    expect(line).to_have_count(1)


def test_one_tab_speaks_for_an_actor(open_page: OpenPage) -> None:
    first = open_page("?as=ui")
    say(first, "from the first")
    expect(theirs(first)).to_have_count(1)
    second = open_page("?as=ui")
    expect(first.get_by_role("status")).to_have_text("This conversation goes on in another tab.")
    assert texts(mine(second)) == ["from the first"]
    say(second, "from the second")
    expect(theirs(second)).to_have_count(2)
    first.bring_to_front()
    first.get_by_role("button", name="Connect again").click()
    expect(first.get_by_role("status")).to_have_text("Connected")
    assert texts(mine(first)) == ["from the first", "from the second"]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_narrow_and_wide(open_page: OpenPage, width: int, scheme: str) -> None:
    page = open_page("?as=ui")
    page.set_viewport_size({"width": width, "height": 700})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for number in range(8):
        say(page, f"{number} " + "word " * 30 + "x" * 120)
    expect(theirs(page)).to_have_count(8)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport()
    expect(theirs(page).last).to_be_in_viewport()


def test_it_works_with_the_keyboard_alone(open_page: OpenPage) -> None:
    page = open_page("?as=ui")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Write a message")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    expect(mine(page).locator(".text")).to_have_text(re.compile("first line\\s*second line"))
    expect(theirs(page)).to_have_count(1)
