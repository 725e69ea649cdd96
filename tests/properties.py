"""How Hypothesis searches: the same examples every time, few or all of them, or many new ones for `tests/hunt.py`."""

from hypothesis import HealthCheck, settings

DEFAULT, THOROUGH, HUNT = "default", "thorough", "hunt"
TIMES = {DEFAULT: 1 / 5, THOROUGH: 1, HUNT: 5}

settings.register_profile(
    DEFAULT,
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile(THOROUGH, settings.get_profile(DEFAULT))
settings.register_profile(HUNT, settings.get_profile(DEFAULT), derandomize=False)


def examples(count: int) -> settings:
    """Try so many examples in the profile that is thorough, fewer in a quick run, and more in a hunt."""
    profile = settings.get_current_profile_name().partition("-")[
        0
    ]  # what follows are options of the command line
    return settings(max_examples=max(3, round(count * TIMES[profile])))
