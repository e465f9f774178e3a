"""The calls of Kaggle's API that publishing needs, for one model.

Responses are not trusted: a value may be missing, too long or of the wrong type.
"""

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from google.protobuf.field_mask_pb2 import FieldMask
from kagglesdk.blobs.services.blob_api_service import BlobApiClient
from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest
from kagglesdk.models.services.model_api_service import ModelApiClient
from kagglesdk.models.types import model_api_service as calls
from kagglesdk.models.types.model_enums import ModelFramework, ModelInstanceType

from publisher.destinations.base import DestinationError
from publisher.destinations.kaggle.client import LARGEST, Connection, ServiceError
from publisher.util.http import HttpError
from publisher.util.http.request import body

PAGE_SIZE = 100
MOST_PAGES = 100
ABSENT = (403, 404)  # Kaggle also answers 403 for what does not exist
FRAMEWORK = ModelFramework.MODEL_FRAMEWORK_TENSOR_FLOW_2
TYPES = {
    "ExternalVariant": ModelInstanceType.MODEL_INSTANCE_TYPE_EXTERNAL_VARIANT,
    "KaggleVariant": ModelInstanceType.MODEL_INSTANCE_TYPE_KAGGLE_VARIANT,
    "BaseModel": ModelInstanceType.MODEL_INSTANCE_TYPE_BASE_MODEL,
    "Unspecified": ModelInstanceType.MODEL_INSTANCE_TYPE_UNSPECIFIED,
}


class _Hello:
    """The response type of the call that identifies the user."""

    @staticmethod
    def from_dict(answer: dict[str, Any]) -> str:
        name = answer.get("userName")
        return name if isinstance(name, str) else ""


class Service:
    """The model `to` (owner/model) at Kaggle.

    Every method raises `ServiceError` on failure, and `ConflictError` for status 409.
    """

    def __init__(self, connection: Connection, to: str) -> None:
        self.owner, _, self.model = to.partition("/")
        self._connection = connection
        self._models = ModelApiClient(connection.client)
        self._blobs = BlobApiClient(connection.client)

    def user(self) -> str:
        """Return the user. Raises `DestinationError` for missing or invalid credentials."""
        if not self._connection.has_credentials:
            raise DestinationError(
                f"{self._connection.name}: no credentials for Kaggle; set KAGGLE_API_TOKEN, or"
                " KAGGLE_USERNAME and KAGGLE_KEY, to a token from kaggle.com/settings/api, or save"
                " it in ~/.kaggle/access_token"
            )
        # kagglehub's own login uses this call too; there is no dedicated one.
        user = self._connection.ask(
            "credentials",
            lambda request: self._connection.client.call(
                "api.v1.DiagnosticsService", "Hello", request, _Hello
            ),
            calls.ApiGetModelRequest(),
        )
        if not user:
            raise self._connection.error("credentials", HttpError(401, "they belong to nobody"))
        return str(user)

    def get_model(self) -> Any | None:
        """Return the model (`ApiModel`), or `None` if it is missing or hidden."""
        return self._get(self.model, self._models.get_model, calls.ApiGetModelRequest)

    def get_variation(self, slug: str) -> Any | None:
        """Return a variation (`ApiModelInstance`), or `None` if it is missing or hidden."""
        return self._get(
            slug,
            self._models.get_model_instance,
            calls.ApiGetModelInstanceRequest,
            instance_slug=slug,
            framework=FRAMEWORK,
        )

    def variations(self) -> list[Any]:
        """Return the variations (`ModelInstance`) of our framework."""
        found = self._list(
            self.model,
            self._models.list_model_instances,
            calls.ApiListModelInstancesRequest,
            lambda answer: answer.instances,
        )
        return [one for one in found if one.framework == FRAMEWORK and isinstance(one.slug, str)]

    def versions(self, slug: str) -> list[int]:
        """Return the numbers of a variation's versions, the oldest first."""
        found = self._list(
            slug,
            self._models.list_model_instance_versions,
            calls.ApiListModelInstanceVersionsRequest,
            lambda answer: answer.version_list.versions if answer.version_list else [],
            instance_slug=slug,
            framework=FRAMEWORK,
        )
        return sorted({_whole_number(version.version_number) for version in found} - {0})

    def files(self, slug: str, number: int) -> dict[str, int]:
        """Return a version's files with their sizes in bytes; empty while Kaggle processes it."""
        found = self._list(
            f"{slug}/{number}",
            self._models.list_model_instance_version_files,
            calls.ApiListModelInstanceVersionFilesRequest,
            lambda answer: answer.files,
            instance_slug=slug,
            framework=FRAMEWORK,
            version_number=number,
        )
        return {str(file.name): _whole_number(file.size) for file in found}

    def content(self, slug: str, number: int, path: str) -> bytes | None:
        """Return a small file of a version, or `None` if it does not exist."""

        def read(response: requests.Response) -> bytes:
            content = body(response, LARGEST)
            return _unzipped(content, path) if _is_zipped(response, path) else content

        content: bytes | None = self._download(slug, number, path, read)
        return content

    def checksum(self, slug: str, number: int, path: str) -> str:
        """Return the storage's CRC32C of a file in base64, or an empty text if it has none."""

        def read(response: requests.Response) -> str:
            told = response.headers.get("x-goog-hash", "").split(",")
            found = {kind: value for kind, _, value in (one.strip().partition("=") for one in told)}
            return "" if _is_zipped(response, path) else found.get("crc32c", "")

        return self._download(slug, number, path, read) or ""

    def start_upload(self, what: str, name: str, size: int) -> tuple[str, str]:
        """Start the upload of a file; return its token and upload address."""
        request = ApiStartBlobUploadRequest()
        request.type = ApiBlobType.MODEL
        request.name = name
        request.content_length = size
        answer = self._connection.ask(what, self._blobs.start_blob_upload, request)
        token, address = answer.token, answer.create_url
        if not (isinstance(token, str) and isinstance(address, str) and token):
            raise self._connection.error(what, HttpError(502, "no upload address"))
        if not address.startswith("https://" if self._connection.encrypted else "http"):
            raise self._connection.error(
                what, HttpError(502, "the upload address is not encrypted")
            )
        return token, address

    def create_model(self) -> None:
        """Create the model as private."""
        request = calls.ApiCreateModelRequest()
        request.owner_slug, request.slug = self.owner, self.model
        # The card, written later, sets the title.
        request.title = self.model
        request.is_private = True
        self._connection.ask(
            f"creating {self.model}", self._models.create_model, request, again=False
        )

    def create_variation(self, what: str, card: Mapping[str, Any], files: Any) -> None:
        """Create a variation whose first version has these files (`ApiUploadDirectoryInfo`)."""
        body = calls.ApiCreateModelInstanceRequestBody()
        body.instance_slug, body.framework = card["instanceSlug"], FRAMEWORK
        body.files, body.directories = files.files, files.directories
        for name, value in _variation_fields(card).items():
            setattr(body, name, value)
        request = calls.ApiCreateModelInstanceRequest()
        request.owner_slug, request.model_slug, request.body = self.owner, self.model, body
        self._connection.ask(what, self._models.create_model_instance, request, again=False)

    def create_version(self, what: str, slug: str, notes: str, files: Any) -> None:
        """Add a version of uploaded files to a variation."""
        body = calls.ApiCreateModelInstanceVersionRequestBody()
        body.version_notes = notes
        body.files, body.directories = files.files, files.directories
        request = calls.ApiCreateModelInstanceVersionRequest()
        request.owner_slug, request.model_slug = self.owner, self.model
        request.instance_slug, request.framework, request.body = slug, FRAMEWORK, body
        self._connection.ask(what, self._models.create_model_instance_version, request, again=False)

    def update_variation(self, card: Mapping[str, Any]) -> None:
        """Replace the card of a variation."""
        request = calls.ApiUpdateModelInstanceRequest()
        request.owner_slug, request.model_slug = self.owner, self.model
        request.instance_slug, request.framework = card["instanceSlug"], FRAMEWORK
        settings = _variation_fields(card)
        for name, value in settings.items():
            setattr(request, name, value)
        request.update_mask = FieldMask(paths=list(settings))
        self._connection.ask(
            f"card of {card['instanceSlug']}", self._models.update_model_instance, request
        )

    def update_model(self, card: Mapping[str, Any]) -> None:
        """Replace the card of the model and its visibility."""
        request = calls.ApiUpdateModelRequest()
        request.owner_slug, request.model_slug = self.owner, self.model
        request.title, request.description = card["title"], card["description"]
        request.is_private = card["isPrivate"]
        request.provenance_sources = card["provenanceSources"]
        names = ["title", "description", "is_private", "provenance_sources"]
        request.update_mask = FieldMask(paths=names)
        self._connection.ask(f"card of {self.model}", self._models.update_model, request)

    def _request(self, kind: Callable[[], Any], **fields: Any) -> Any:
        request = kind()
        for name, value in {"owner_slug": self.owner, "model_slug": self.model, **fields}.items():
            setattr(request, name, value)
        return request

    def _get(
        self, what: str, call: Callable[[Any], Any], kind: Callable[[], Any], **fields: Any
    ) -> Any | None:
        try:
            return self._connection.ask(what, call, self._request(kind, **fields))
        except ServiceError as error:
            if error.status in ABSENT:
                return None
            raise

    def _list(
        self,
        what: str,
        call: Callable[[Any], Any],
        kind: Callable[[], Any],
        items: Callable[[Any], Iterable[Any]],
        **fields: Any,
    ) -> list[Any]:
        """Return the items on all pages of a list; empty if it is missing or hidden."""
        found: list[Any] = []
        token: str | None = None
        for _ in range(MOST_PAGES):
            paging = {"page_size": PAGE_SIZE, **({"page_token": token} if token else {})}
            answer = self._get(what, call, kind, **fields, **paging)
            if answer is None:
                return found
            found += items(answer)
            token = answer.next_page_token
            if not token:
                return found
        raise self._connection.error(
            what, HttpError(502, f"a list of more than {MOST_PAGES} pages")
        )

    def _download(
        self, slug: str, number: int, path: str, read: Callable[[requests.Response], Any]
    ) -> Any | None:
        """Download a file and return `read(response)`, or `None` if it does not exist."""

        def call(request: Any) -> Any:
            with self._models.download_model_instance_version(request) as response:
                return read(response)

        return self._get(
            f"{slug}/{number}: {path}",
            call,
            calls.ApiDownloadModelInstanceVersionRequest,
            instance_slug=slug,
            framework=FRAMEWORK,
            version_number=number,
            path=path,
        )


def _variation_fields(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a card under kagglesdk's names."""
    return {
        "overview": card["overview"],
        "usage": card["usage"],
        "license_name": card["licenseName"],
        "fine_tunable": card["fineTunable"],
        "training_data": card["trainingData"],
        "model_instance_type": TYPES[card["modelInstanceType"]],
        "external_base_model_url": card["externalBaseModelUrl"],
    }


def _is_zipped(response: requests.Response, path: str) -> bool:
    """Return whether the storage sent the file as a zip, as it does for some files."""
    return urlsplit(response.url).path.endswith(f"{path.rpartition('/')[2]}.zip")


def _unzipped(content: bytes, path: str) -> bytes:
    """Return a file in a zip. Raises `HttpError` if it is missing or too large."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            member = archive.getinfo(path.rpartition("/")[2])
            if member.file_size <= LARGEST:
                return archive.read(member)
    except (zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError):
        pass
    raise HttpError(502, "a zip without the file")


def _whole_number(value: Any) -> int:
    """Return a number from a response, or 0 for anything but a whole number from 0."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:18])
    return value if isinstance(value, int) and value >= 0 else 0
