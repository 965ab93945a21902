"""What MkDocs does beside its plugins."""

import re

#: As Sphinx has them in docstrings, ``:func:`name```, rendered.
ROLE = re.compile(r":(?:func|class|meth|attr|data|mod):<code>~?")


def on_page_content(html: str, **_: object) -> str:
    """Show a name in a docstring as a name, without Sphinx's role."""
    return ROLE.sub("<code>", html)
