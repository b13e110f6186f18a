"""One error tree; nothing else crosses the public API.

    AccelError                 70  our own bug, when raised bare
    |-- ConstraintError         1  no candidate met the constraints, or a gate failed
    |-- UsageError              2  wrong words on the command line, or bad input
    |   `-- BadModel            2  a model file that is broken or cannot be used
    |-- Unmeasured              3  cannot tell, or candidates that this machine cannot measure
    |-- InstrumentUnfit         4  the machine is too noisy to measure on
    |-- NoBaseline              5  nothing to compare with
    |-- CandidateBroken         6  a build, load or run failed, crashed, hung or gave NaN
    `-- EnvironmentProblem      7  missing library, full disk, no permission
        `-- MissingExtra        7  a library that a family member needs is not installed

The number is the exit code of the command line. A message says what failed, the value seen, what
was allowed, and the next command to type.
"""


class AccelError(Exception):
    """Base of every error that accel raises."""

    exit_code = 70


class ConstraintError(AccelError):
    """No candidate met the constraints; the nearest ones are in the message."""

    exit_code = 1


class UsageError(AccelError):
    """The request itself is wrong: an option, a path, a workload, a data file."""

    exit_code = 2


class BadModel(UsageError):
    """A model file that is missing, broken, or outside what accel can handle."""


class Unmeasured(AccelError):
    """The question cannot be answered on this machine or with this much data."""

    exit_code = 3


class InstrumentUnfit(AccelError):
    """The machine is too disturbed for a timing that could be believed."""

    exit_code = 4


class NoBaseline(AccelError):
    """There is nothing to compare with."""

    exit_code = 5


class CandidateBroken(AccelError):
    """One candidate failed to build, load or run; the run itself goes on."""

    exit_code = 6


class EnvironmentProblem(AccelError):
    """The machine lacks something: a library, disk space, a permission."""

    exit_code = 7


class MissingExtra(EnvironmentProblem):
    """A family member needs a library that is not installed, or does not load."""


def concerns_all(error: AccelError) -> bool:
    """Is it the machine's, such as a full disk, so that every later candidate would be lost too?"""
    return isinstance(error, EnvironmentProblem) and not isinstance(error, MissingExtra)
