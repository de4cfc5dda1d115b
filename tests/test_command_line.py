"""From a library's errors to a command's: arguments become flags, other libraries' words stay what they are."""

import dataclasses

import pytest
from absl import flags

from msrn_tf.command_line import define_flags, from_flags, option, with_flags
from msrn_tf.errors import DivergenceError, UserError, argument, first_line


@dataclasses.dataclass(frozen=True)
class Choices:
    """Choices"""

    model: str = option("", "a model")
    labels: str = option("", "labels")


def test_arguments_that_are_flags_of_the_command_are_written_as_flags():
    sentence = "`model`=a.keras: knows no `labels`; see `modelling`, `other`=1 and model"
    assert with_flags(sentence, Choices()) == "--model=a.keras: knows no --labels; see `modelling`, `other`=1 and model"


def test_an_error_about_a_value_names_the_argument_and_stays_what_it_is():
    with pytest.raises(DivergenceError, match=r"^`model`=a\.keras: diverged$") as told, argument("model"):
        raise DivergenceError("a.keras: diverged")
    assert told.value.exit_status == 1
    with pytest.raises(ValueError, match=r"^a$"), argument("model"):
        raise ValueError("a")
    assert isinstance(told.value, UserError)


def test_what_other_libraries_say_is_one_line_without_arguments():
    assert first_line(ValueError("\n`labels` must be one.\nReceived: 3")) == "'labels' must be one."
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("x" * 300), most=10) == "x" * 10


@pytest.fixture
def numbers(monkeypatch):
    """The values of flags on a command line, as `Numbers`."""
    defined = flags.FlagValues()
    for name in ("DEFINE_float", "DEFINE_list", "register_validator"):
        define = getattr(flags, name)
        monkeypatch.setattr(flags, name, lambda *a, _define=define, **k: _define(*a, **k, flag_values=defined))
    monkeypatch.setattr(flags, "FLAGS", defined)
    define_flags(Numbers)

    def parse(*arguments):
        defined(["command", *arguments])
        return from_flags(Numbers)

    return parse


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Numbers"""

    seconds: float = option(1.0, "seconds", low=0.0)
    strides: tuple[int, ...] = option((8, 16), "strides")


def test_numbers_of_flags_are_read(numbers):
    assert numbers() == Numbers()
    assert numbers("--seconds=1e3", "--strides=-8, 32") == Numbers(1000.0, (-8, 32))


@pytest.mark.parametrize("text", ["inf", "nan", "1e999", "-inf", "x"])
def test_a_number_that_is_not_finite_is_refused(numbers, text):
    with pytest.raises(flags.Error, match="seconds"):
        numbers(f"--seconds={text}")


@pytest.mark.parametrize("text", ["8,--16", "8,²", "8,-", "8,,16", "8.0"])
def test_a_list_of_numbers_that_are_not_whole_is_refused(numbers, text):
    with pytest.raises(flags.Error, match=r"strides.*must be whole numbers, separated by commas"):
        numbers(f"--strides={text}")
