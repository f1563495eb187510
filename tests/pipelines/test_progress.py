"""One bar for the whole, whose total is reached."""

import io

import pytest

from mmg_diffusers import Candidates
from mmg_diffusers.pipelines.progress import bar, bar_of_parts
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes


class Screen(io.StringIO):
    """What a terminal would have been sent."""

    def states(self):
        return [text for text in self.getvalue().split("\r") if "%|" in text]


@pytest.fixture
def screen(pipe):
    shown = Screen()
    before = pipe.progress_bar_config
    pipe.set_progress_bar_config(file=shown, mininterval=0)
    yield shown
    pipe.set_progress_bar_config(**before)


def test_the_total_is_reached_and_time_that_is_left_is_told(pipe, screen):
    sample = Shapes("soft").sample(2, seed=1)
    images, prompts = list(sample.images), sample.prompts
    # Levels that fall together, and candidates that are not followed to the end.
    clean = {"levels": 40, "logsnr_range": (5.5, 7.0)}
    assert pipe(images, prompts, **clean).evaluations < 2 * 40 * 2 * 2
    for ask in (
        lambda: pipe(images, prompts, **clean),
        lambda: pipe.filter(images, prompts, Candidates(CAPTIONS), levels=4, prune=0.01),
        lambda: pipe.log_likelihood(images, levels=4),
        lambda: pipe(images, prompts, levels=8, batch_size=3),
    ):
        screen.seek(0)
        screen.truncate()
        ask()
        states = screen.states()
        assert "100%" in states[-1]
        assert all("<" in state for state in states)  # elapsed<remaining


def test_one_bar_for_several_measurements(pipe, screen):
    sample = Shapes("soft").sample(2, seed=1)
    pipe.words(list(sample.images), sample.prompts, words=["@1", "@2"], together=True, levels=4, batch_size=2)
    states = screen.states()
    assert all(state.startswith("words: ") for state in states)
    shares = [int(state.removeprefix("words: ").split("%")[0]) for state in states]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 100
    assert len(set(shares)) > 6


def test_parts_of_parts():
    screen = Screen()
    options = {"file": screen, "mininterval": 0}
    with bar_of_parts(2, "all", options):
        with bar_of_parts(4, "inner", options):
            for _ in range(4):
                with bar(10, "one", options) as one:
                    one.update(5)
        with bar(None, "unknown", options) as one:
            one.update(3)
    shares = [int(state.removeprefix("all: ").split("%")[0]) for state in screen.states()]
    assert {0, 50, 100} <= set(shares)
    assert shares == sorted(shares)
    assert all(state.startswith("all: ") for state in screen.states())


def test_a_bar_that_fails_does_not_say_that_all_is_done():
    screen = Screen()

    def fail():
        with bar(10, "one", {"file": screen, "mininterval": 0}) as one:
            one.update(5)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert "100%" not in screen.getvalue()
    screen = Screen()
    with pytest.raises(ValueError, match="no"), bar_of_parts(2, "all", {"file": screen, "mininterval": 0}):
        raise ValueError("no")
    assert "100%" not in screen.getvalue()
    with bar(2, "after", {"file": screen, "mininterval": 0}) as one:
        one.update(2)
    assert "after" in screen.getvalue()
