"""What can be known of an object store before TensorFlow asks it: credentials, the network, the bucket.

TensorFlow's client of Google Cloud Storage asks the metadata server of a Google machine for credentials, and asks again
for minutes where there is none; and it tries for as long to reach a store without a network.
"""

import errno
import functools
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request

from msrn_tf.errors import UserError, first_line

KEY_FILE, TOKEN, NO_METADATA = "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_AUTH_TOKEN_FOR_TESTING", "NO_GCE_CHECK"
"""Environment variables that TensorFlow's client reads."""
METADATA_SECONDS, STORE_SECONDS = 2, 15
STORE = "https://www.googleapis.com/storage/v1/b/"


def check_store(address: str) -> None:
    """Refuses a bucket that cannot be had. Of schemes other than `gs` nothing is known.

    Raises:
        UserError: there is no such bucket, the store cannot be reached, or the credentials are none.
    """
    scheme, _, name = address.partition("://")
    if scheme.lower() == "gs":
        _check_bucket(name.partition("/")[0])


@functools.lru_cache
def _check_bucket(bucket):
    if not bucket:
        raise UserError("gs://: names no bucket; write gs://BUCKET/FOLDER")
    _check_credentials()
    request = urllib.request.Request(f"{STORE}{urllib.parse.quote(bucket, safe='')}?fields=name")
    try:
        urllib.request.urlopen(request, timeout=STORE_SECONDS, context=_trusted()).close()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise UserError(f"gs://{bucket}: there is no such bucket; check its name") from error
        # Any other answer is one: whether TensorFlow's client may read it, that will know.
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"gs://{bucket}: Google Cloud Storage cannot be reached ({first_line(reason)}); check the network, or "
            "https_proxy"
        ) from error


def _trusted():
    """Certificates as TensorFlow's client is told them."""
    return ssl.create_default_context(cafile=os.environ.get("CURL_CA_BUNDLE") or None)


@functools.lru_cache
def _check_credentials():
    """Looks for credentials where TensorFlow's client does. Where there are none, lets that do without at once."""
    key = os.environ.get(KEY_FILE)
    if key:
        _check_key(key)
    elif not has_credentials() and os.environ.get(NO_METADATA, "").lower() != "true" and not _is_google_machine():
        os.environ[NO_METADATA] = "true"


def _check_key(path):
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        is_key = isinstance(content, dict) and ("refresh_token" in content or "private_key" in content)
    except (OSError, ValueError) as error:
        raise UserError(f"{KEY_FILE}={path}: cannot be read ({first_line(error)}); name a key file") from error
    if not is_key:
        raise UserError(
            f"{KEY_FILE}={path}: has neither a private key nor a refresh token, and TensorFlow reads no other "
            "credentials; name the key file of a service account"
        )


def has_credentials() -> bool:
    """Whether there is a token, a key file, or what `gcloud auth application-default login` leaves."""
    folder = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")
    left = os.path.join(folder, "application_default_credentials.json")
    return any(os.environ.get(name) for name in (TOKEN, KEY_FILE)) or os.path.isfile(left)


def _is_google_machine():
    host = os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
    request = urllib.request.Request(f"http://{host}/computeMetadata/v1/", headers={"Metadata-Flavor": "Google"})
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        direct.open(request, timeout=METADATA_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def hint_of(address: str, code: int) -> str:
    """What to do about an error of a store, as the end of a sentence; empty where nothing is known.

    Args:
        address: that was asked for.
        code: of `errno`.
    """
    if not address.startswith("gs://") or (code != errno.EACCES and code != errno.EIO):
        return ""
    if has_credentials() or os.environ.get(NO_METADATA, "").lower() != "true":
        return "; do the credentials allow it?"
    return f"; no credentials were found: run gcloud auth application-default login, or set {KEY_FILE}"
