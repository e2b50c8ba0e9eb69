#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How the bench reads what machines say. Prints TAP."""
import os, sys

sys.dont_write_bytecode = True
TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path += [TOP + "/tools", TOP + "/tests"]
import boots, children
from boots import check


def marks(script):
    """{mark: time} and the text; or why there is none, and what was said until then."""
    try:
        return children.marks(["sh", "-c", script], "@end")
    except children.Stuck as e:
        return e.seen, str(e)


# A serial line may send the two ends of a line apart.
seen, text = marks(r"printf '@one'; sleep 0.2; printf '\r'; sleep 0.2; printf '\n@end\r\n'")
check("a carriage return that comes alone is not the end", list(seen) == ["@one", "@end"], (seen, text))
seen, text = marks(r"printf '@one\r\n@two'; echo reason >&2; exit 3")
check("the end is told with its status, what was said and why",
      list(seen) == ["@one"] and "ended with 3" in text and "@two" in text and "reason" in text, (seen, text))
print(f"1..{boots.checks}")
sys.exit(boots.failures != 0)
