"""Settings from the environment: how to reach Kafka and Triton, and how a worker runs. Defaults name loopback."""

from __future__ import annotations

import ssl
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from panther_core.base.errors import BadInput

#: name under which a Triton server of ours asks for its key (`--grpc-restricted-protocol`, `--http-restricted-api`)
TRITON_KEY_NAME = "panther-key"


class KafkaSettings(BaseSettings):
    """How to reach Kafka: `KAFKA_BOOTSTRAP_SERVERS`, and TLS and SASL where the cluster asks for them."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_")

    bootstrap_servers: str = Field(default="127.0.0.1:19092", description="host:port, comma separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: str | None = Field(default=None, description="CA certificates (PEM); the system's where not given")
    ssl_certfile: str | None = Field(default=None, description="client certificate (PEM), for mutual TLS")
    ssl_keyfile: str | None = None

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS context, or None where the protocol has no TLS. Certificates and host names are verified."""
        if "SSL" not in self.security_protocol:
            return None
        context = ssl.create_default_context(cafile=self.ssl_cafile)
        if self.ssl_certfile:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        return context

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments every aiokafka client takes."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.ssl_context:
            options["ssl_context"] = self.ssl_context
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password.get_secret_value() if self.sasl_password else None,
            }
        return options


class PantherSettings(BaseSettings):
    """The system's own settings: `PANTHER_*` and `TRITON_URL`. A command-line option overrides the environment."""

    model_config = SettingsConfigDict(env_prefix="PANTHER_", populate_by_name=True)

    app_id: str = Field(default="panther", description="consumer group, and prefix of the changelog topic")
    data_dir: str = Field(default="build/worker", description="RocksDB folder of one worker; never shared by two")
    models_dir: str = Field(default="build/models", description="where model artifacts lie, one folder a version")
    models_key: Path | None = Field(
        default=None,
        description="public key of minisign (a file): versions that its holder has not signed are not loaded, and not "
        "taken by workers; not asked for where not given",
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="what exported models are to be run on")
    partitions: int = Field(default=8, description="of every user-keyed topic; can never change later", ge=1)
    replication: int = Field(default=1, description="copies of every topic; 3 in production", ge=1)
    min_insync: int | None = Field(
        default=None,
        description="copies that must hold a record before it counts as durable (min.insync.replicas); 2 where "
        "replication is 3 or more, else 1",
        ge=1,
    )
    retention_days: float = Field(
        default=90,
        description="transactions and labels are kept so long: the time that labels take, and the training window",
        gt=0,
    )
    decisions_days: float = Field(
        default=30, description="decisions, alerts and dead letters are kept so long, and at least recall_hours", gt=0
    )
    partitioner: Literal["murmur2", "crc32", "none"] = Field(
        default="murmur2",
        description="how producers choose a transaction's partition from its key: murmur2 (Java, `panther produce`), "
        "crc32 (librdkafka unless told); none: not checked",
    )
    rates: dict[str, float] = Field(
        default={},
        description='worth of one unit of each currency, as {"EUR": 1, "USD": 0.92}: amounts are converted to the one '
        "of worth 1, and payments in others become dead letters; empty: amounts count as they come. The same for "
        "workers, refresh, replay and parity",
    )
    recall_hours: float = Field(
        default=6, description="a copy of a transaction within so many hours gets the stored decision again", ge=0
    )
    triton_url: str = Field(
        default="127.0.0.1:18001",
        validation_alias=AliasChoices("TRITON_URL", "PANTHER_TRITON_URL"),
        description="host:port of Triton's gRPC end point; several replicas comma separated",
    )
    triton_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("TRITON_KEY", "PANTHER_TRITON_KEY"),
        description="what Triton asks of whoever loads and unloads models; not sent where not given",
    )
    triton_key_file: str = Field(
        default="build/stack/triton.key",
        validation_alias=AliasChoices("TRITON_KEY_FILE", "PANTHER_TRITON_KEY_FILE"),
        description="file that holds the key, where `triton_key` is not given; `panther up` makes this one",
    )
    standby_replicas: int = Field(
        default=0,
        description="workers that keep a copy of each partition's states, beside its own; the same for all workers",
        ge=0,
    )
    group_instance_id: str | None = Field(
        default=None, description="a name of this worker for static group membership; no two workers share one"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="of a worker; json: one object a line")
    batch_max: int = Field(default=512, description="events of a micro-batch at most", ge=1)
    batch_within_s: float = Field(default=0.003, description="longest wait to fill a micro-batch", gt=0)
    batches_under_way: int = Field(
        default=2, description="micro-batches' worth of events worked on at once; no user is in two of them", ge=1
    )
    score_deadline_s: float = Field(default=0.5, description="after it a decision is made by rules", gt=0)
    encode_deadline_s: float = Field(default=5.0, description="after it the user is encoded at the next event", gt=0)
    sweep_users_per_s: float = Field(
        default=200, description="users a worker moves to a new model version in the background; 0 = none", ge=0
    )

    @field_validator("rates")
    @classmethod
    def _one_base(cls, rates: dict[str, float]) -> dict[str, float]:
        if rates and not (all(0 < worth < 1e9 for worth in rates.values()) and [*rates.values()].count(1) == 1):
            raise BadInput(
                f'expected PANTHER_RATES like {{"EUR": 1, "USD": 0.92}}, one currency of worth 1, got {rates}'
            )
        return rates

    @property
    def triton_headers(self) -> dict[str, str] | None:
        """Header of the gRPC calls that Triton answers for holders of its key alone; None where no key is known.

        Raises BadInput where the file of the key cannot be read.
        """
        if self.triton_key is not None:
            return triton_headers(self.triton_key.get_secret_value())
        try:
            return triton_headers(Path(self.triton_key_file).read_text())
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(
                f"expected Triton's key in {self.triton_key_file}, got {error}: run as the user who started Triton, or "
                "set PANTHER_TRITON_KEY"
            ) from None


def triton_headers(key: str | None) -> dict[str, str] | None:
    """The gRPC header that carries Triton's key; None without a key."""
    return {f"triton-grpc-protocol-{TRITON_KEY_NAME}": key.strip()} if key and key.strip() else None
