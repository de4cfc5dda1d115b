"""From a library's errors to a command's: arguments become flags, other libraries' words stay what they are."""

import dataclasses

import pytest

from msrn_tf.command_line import option, with_flags
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
