"""TF-Serving's `SSLConfig` text proto, whose class is not in `tensorflow-serving-api`, and gRPC credentials from it.

Fields, after TF-Serving's documentation: `server_key`, `server_cert`, `custom_ca` (PEM texts) and `client_verify`.
"""

import ssl
import tempfile
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from msrn_tf.errors import UserError, first_line

FIELDS = {"server_key": "TYPE_STRING", "server_cert": "TYPE_STRING", "custom_ca": "TYPE_STRING",
          "client_verify": "TYPE_BOOL"}  # fmt: skip


def read_ssl_config(path: str) -> Any:
    """The `SSLConfig` message of a file. Raises `UserError` that names `ssl_config`."""
    file = descriptor_pb2.FileDescriptorProto(name="ssl_config.proto", package="msrn_tf", syntax="proto3")
    message = file.message_type.add(name="SSLConfig")
    for number, (name, kind) in enumerate(FIELDS.items(), 1):
        field = message.field.add(name=name, number=number, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL)
        field.type = getattr(descriptor_pb2.FieldDescriptorProto, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    config = message_factory.GetMessageClass(pool.FindMessageTypeByName("msrn_tf.SSLConfig"))()
    try:
        with open(path, encoding="utf-8-sig") as stream:
            text_format.Parse(stream.read(), config)
    except OSError as error:
        raise UserError(f"`ssl_config`={path}: cannot be read ({error.strerror})") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"`ssl_config`={path}: is not an SSLConfig text proto ({first_line(error)})") from error
    if not config.server_key or not config.server_cert:
        raise UserError(f"`ssl_config`={path}: needs server_key and server_cert, as PEM texts")
    if config.client_verify and not config.custom_ca:
        raise UserError(f"`ssl_config`={path}: client_verify needs custom_ca, the authority that signs the clients")
    return config


def server_credentials(config: Any) -> grpc.ServerCredentials:
    """gRPC's credentials of an `SSLConfig`."""
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def server_context(config: Any) -> ssl.SSLContext:
    """The same for HTTP. Raises `ValueError` or `OSError` where key and certificate are none."""
    authority = config.custom_ca.encode("ascii", "ignore").decode()  # comments beside the PEM may be in any language
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority or None)
    context.verify_mode = ssl.CERT_REQUIRED if config.client_verify else ssl.CERT_NONE
    with tempfile.NamedTemporaryFile("w", suffix=".pem", encoding="utf-8") as file:  # readable by this user alone
        file.write(f"{config.server_key}\n{config.server_cert}\n")
        file.flush()
        context.load_cert_chain(file.name, password=_no_pass_phrase)
    return context


def _no_pass_phrase():
    """Called for an encrypted key, for which OpenSSL would ask on the terminal and wait."""
    raise ValueError("server_key is encrypted; write it without a pass phrase, as openssl pkey does")
