"""The user of a token, and whether the token may write to the models of an owner.

Source: what `whoami` of huggingface_hub returns; documentation page "User access tokens".
"""

from typing import Any

from pydantic import BaseModel

from publisher.destinations.huggingface.client import LOGIN

WRITE = "repo.write"  # the permission of fine-grained tokens


class _Organization(BaseModel):
    name: str
    roleInOrg: str = ""  # noqa: N815  the Hub's name


class _Entity(BaseModel):
    name: str = ""


class _Scope(BaseModel):
    entity: _Entity = _Entity()
    permissions: list[str] = []


class _FineGrained(BaseModel):
    scoped: list[_Scope] = []


class _AccessToken(BaseModel):
    role: str = ""
    fineGrained: _FineGrained = _FineGrained()  # noqa: N815  the Hub's name


class _Auth(BaseModel):
    accessToken: _AccessToken = _AccessToken()  # noqa: N815  the Hub's name


class User(BaseModel):
    """The user and the token's permissions, as `whoami` reports them."""

    name: str
    orgs: list[_Organization] = []
    auth: _Auth = _Auth()


def user_of(answer: Any) -> User:
    """Parse the response of `whoami`. Raises `ValueError` if its form is wrong."""
    return User.model_validate(answer)


def refusal_to_write(user: User, owner: str) -> str:
    """Return why a token may not write to the models of an owner, or an empty text if it may."""
    token = user.auth.accessToken
    organizations = {org.name: org for org in user.orgs}
    if owner != user.name and owner not in organizations:
        return (
            f"the token belongs to {ascii(user.name)[:100]}, who is neither {owner} nor in an"
            " organization of that name; correct `to` in models.yaml, or use another token"
        )
    if owner in organizations and organizations[owner].roleInOrg == "read":
        return f"{user.name} may only read in {owner}; ask for the role `write` or `contributor`"
    if token.role == "read":
        return f"the token may only read; {LOGIN}"
    scopes = token.fineGrained.scoped
    if token.role == "fineGrained" and not any(
        WRITE in scope.permissions and scope.entity.name.partition("/")[0] == owner
        for scope in scopes
    ):
        return (
            f"the token may not write to the models of {owner}; give it the permission"
            f" `Write access to contents/settings of all repos` there ({WRITE})"
        )
    return ""
