"""The command line: ``fastlmm fit``, ``predict``, ``plan``, ``datasets``, ``demo``, ``bench``.

Exit codes
----------
0 : done.
1 : the model, the data or a file is at fault; one line on stderr says how.
2 : the command was called wrongly (unknown option, missing argument).
3 : the fit ended without a certificate of an optimum; its results are printed all the same.
130 : interrupted.
"""

import os
import sys

OK, FAULT, USAGE, NOT_CONVERGED, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments=None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.

    Returns
    -------
    int : the exit code.
    """
    try:
        import click
    except ImportError:
        sys.stderr.write("fastlmm: the command line needs click: pip install 'fastlmm_core[cli]'\n")
        return FAULT
    from .commands import commands
    from .reading import one_line

    try:
        return commands(arguments, prog_name="fastlmm", standalone_mode=False) or OK
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a command without arguments shows its help
            error.show()
            return USAGE
        name = error.ctx.command_path if getattr(error, "ctx", None) else "fastlmm"
        sys.stderr.write(f"{name}: {one_line(error.format_message())}\n")
        return USAGE
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("fastlmm: interrupted\n")
        return INTERRUPTED
    except (ValueError, ArithmeticError, OSError, ImportError, MemoryError) as error:
        sys.stderr.write(f"fastlmm: {one_line(error)}\n")
        return FAULT


def script() -> None:
    """Entry point of the ``fastlmm`` script."""
    sys.exit(main())
