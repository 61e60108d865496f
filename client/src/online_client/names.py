"""Who is named by what an application returns as its user, and what stands for nobody.

Applications say "nobody" in many ways: `current_user.is_authenticated and current_user.name` is False, the name of
Django's AnonymousUser is empty, a template or a script writes None, null or undefined. None of these is a member.
"""

from typing import TypeAlias

from online_client.verbs import MEMBER, User

#: Who views a page, as an application says: a user, `(user, kind)` such as `("eve", "hidden")`, or nobody.
Visitor: TypeAlias = object

#: Texts that stand for nobody, as templates and scripts write them. Null and none in other letters are names of people.
NOBODY = frozenset({"", "0", "-", "None", "False", "false", "null", "undefined", "NaN", "AnonymousUser"})


def named(visitor: Visitor) -> tuple[User, str] | None:
    """Return `(user, kind)`, None if `visitor` stands for nobody, who is a guest.

    Raises TypeError for what has no name: a container, or an object without a text of its own.
    """
    user, kind = visitor if isinstance(visitor, tuple | list) and len(visitor) == 2 else (visitor, MEMBER)
    name = _name(user)
    return None if name is None else (name, str(kind))


def _name(user: object) -> User | None:
    if user is None or isinstance(user, bool):
        return None
    if isinstance(user, int):
        return int(user) or None
    if isinstance(user, bytes):
        return None if user.strip().decode("latin-1") in NOBODY else user
    if isinstance(user, bytearray | list | tuple | dict | set | frozenset) or type(user).__str__ is object.__str__:
        raise TypeError(f"a user should be text or an object with a text of its own, such as a UUID, not {user!r:.80}")
    text = str(user)
    return None if text.strip() in NOBODY else text
