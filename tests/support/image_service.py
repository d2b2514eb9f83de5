# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Keystone and a real Glance on this machine, with TLS, and what their administrator does there."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import openstack

from ansible_collections.stackops.nova.tests.support.compute_fleet import ComputeFleet
from ansible_collections.stackops.nova.tests.support.image_server import certificate
from ansible_collections.stackops.nova.tests.support.monitoring import free_port, wait_until

__all__ = ["Auth", "ImageService", "image_service"]

Auth = Mapping[str, str]
"""How somebody logs in: what ``auth`` of ``clouds.yaml`` has, without the URL."""

REGION = "lab"

_PROGRAMS = Path(os.environ["GLANCE_VENV"]) / "bin"
_PASTE = _PROGRAMS.parent / "etc/glance/glance-api-paste.ini"
_GUNICORN_SETTINGS = Path(__file__).parents[1] / "glance/gunicorn_settings.py"
_PASSWORD = "secret of the administrator"
_DOMAIN = "default"
# Settings of the user who runs the tests, which must not matter.
_SETTINGS = ("OS_", "PYTHON")
# The access rules of an application credential that can read images and nothing else.
_READ_IMAGES = [
    {"service": "image", "method": "GET", "path": path} for path in ("/v2/images", "/v2/images/*", "/v2/images/*/file")
]
_BUFFERED_BYTES = 16 << 20
_MOST_SECONDS = 120

_KEYSTONE = """\
[database]
connection = sqlite:///{root}/keystone.db
[fernet_tokens]
key_repository = {root}/fernet
"""
_GLANCE = """\
[DEFAULT]
enabled_backends = store:file
[database]
connection = sqlite:///{root}/glance.db
[glance_store]
default_backend = store
[store]
filesystem_store_datadir = {root}/store
[os_glance_staging_store]
filesystem_store_datadir = {root}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {root}/tasks
[paste_deploy]
flavor = keystone
config_file = {paste}
[keystone_authtoken]
auth_type = password
auth_url = {identity}
www_authenticate_uri = {identity}
cafile = {ca_cert}
username = admin
password = {password}
project_name = admin
user_domain_id = default
project_domain_id = default
interface = public
service_type = image
"""


class ImageService:
    """Keystone and Glance.

    :param address: where they listen: this machine's loopback, or its address in a network of containers.
    :ivar root: the folder with all that they have.
    :ivar ca_cert: the certificate to trust.
    :ivar identity: the URL of Keystone.
    :ivar endpoint: the URL of Glance.
    """

    def __init__(self, root: Path, address: str) -> None:
        self.root = root
        self.ca_cert = certificate(root, f"IP:{address}")
        self._address = address
        self._keystone_port, self._glance_port = free_port(), free_port()
        self.identity = f"https://{address}:{self._keystone_port}/v3"
        self.endpoint = f"https://{address}:{self._glance_port}"
        self._keystone: _Server | None = None
        self._glance: _Server | None = None

    def start(self) -> None:
        """Make the databases, start both servers, and put Glance in the catalogue."""
        values = {"root": self.root, "paste": _PASTE, "identity": self.identity, "ca_cert": self.ca_cert}
        for name, text in (("keystone.conf", _KEYSTONE), ("glance-api.conf", _GLANCE)):
            (self.root / name).write_text(text.format(**values, password=_PASSWORD))
        (self.root / "fernet").mkdir(mode=0o700)
        owner = ["--keystone-user", str(os.geteuid()), "--keystone-group", str(os.getegid())]
        administrator = ["--bootstrap-password", _PASSWORD, "--bootstrap-region-id", REGION]
        self._run("keystone-manage", "db_sync")
        self._run("keystone-manage", "fernet_setup", *owner)
        self._run("keystone-manage", "bootstrap", *administrator, "--bootstrap-public-url", self.identity)
        self._run("glance-manage", "db_sync")
        self._keystone = self._serve("keystone", self._keystone_port)
        self._keystone.wait(self.ca_cert)
        self.start_glance()
        # A connection keeps the catalogue that it got when it was made.
        identity = self.connect(self.admin_auth).identity
        service = identity.create_service(name="glance", type="image")
        identity.create_endpoint(service_id=service.id, interface="public", url=self.endpoint, region_id=REGION)

    def start_glance(self) -> None:
        """Start Glance, with the images that it had."""
        self._glance = self._serve("glance", self._glance_port)
        self._glance.wait(self.ca_cert)

    def kill_glance(self) -> None:
        """Kill Glance, whatever it is doing."""
        assert self._glance is not None
        self._glance.kill()

    def kill_workers(self) -> None:
        """Kill the processes of Glance that serve. Others take their place."""
        assert self._glance is not None
        for worker in self._glance.workers():
            os.kill(worker, signal.SIGKILL)

    def stop(self) -> None:
        """End what runs."""
        for server in (self._keystone, self._glance):
            if server is not None:
                server.kill()

    @cached_property
    def admin(self) -> Any:
        """The administrator's connection."""
        return self.connect(self.admin_auth)

    @cached_property
    def reader(self) -> Auth:
        """How somebody logs in who can read images and nothing else: by an application credential."""
        return self.restricted(self.add_user("operators", "member"), _READ_IMAGES)

    @property
    def admin_auth(self) -> Auth:
        """How the administrator logs in."""
        return _password_auth("admin", _PASSWORD, "admin")

    def connect(self, auth: Auth) -> Any:
        """Log in; return openstacksdk's connection."""
        return openstack.connect(**self._cloud(auth), load_yaml_config=False, load_envvars=False)

    def write_clouds(self, folder: Path, **clouds: Auth) -> Path:
        """Write a ``clouds.yaml``, which says how to log in to each cloud, and return its path."""
        path = folder / "clouds.yaml"
        path.write_text(json.dumps({"clouds": {name: self._cloud(auth) for name, auth in clouds.items()}}))
        return path

    def fleet(self, root: Path) -> ComputeFleet:
        """Make a fleet without hosts, whose operator has a credential that can read images and nothing else."""
        made = ComputeFleet(root)
        made.environment = {"OS_CLIENT_CONFIG_FILE": str(self.write_clouds(root, lab=self.reader))}
        made.variables = {
            "image_cache_openstack_cloud": "lab",
            "image_cache_glance_ca_cert": str(self.ca_cert),
            "image_cache_min_free_space": "0%",
        }
        return made

    def add_user(self, name: str, role: str) -> Auth:
        """Add a user with a role in a new project of the same name; return how the user logs in."""
        identity = self.admin.identity
        project = identity.create_project(name=name, domain_id=_DOMAIN)
        user = identity.create_user(name=name, password=name, domain_id=_DOMAIN)
        identity.assign_project_role_to_user(project, user, identity.find_role(role))
        return _password_auth(name, name, name)

    def disable_user(self, name: str) -> None:
        """Make all tokens of a user invalid. A process of Glance that has seen one accepts it for some minutes more."""
        self.admin.identity.update_user(self.admin.identity.find_user(name), is_enabled=False)

    def project_id(self, name: str) -> str:
        """Return the id of a project."""
        return str(self.admin.identity.find_project(name).id)

    def restricted(self, auth: Auth, rules: Sequence[Mapping[str, str]]) -> Auth:
        """Make an application credential of a user that can do what the access rules say; return how it logs in."""
        connection = self.connect(auth)
        made = connection.identity.create_application_credential(
            connection.current_user_id, name="for pre-caching", access_rules=rules
        )
        return {"application_credential_id": made.id, "application_credential_secret": made.secret}

    def upload(self, path: Path | None, disk_format: str = "raw", **more: str) -> dict[str, Any]:
        """Make an image, a public one unless said otherwise.

        :param path: its bytes; None for one that waits for them.
        :param more: what the image has besides, such as ``name``, ``owner`` and properties.
        :return: Glance's record of it.
        """
        image = {"visibility": "public", "disk_format": disk_format, "container_format": "bare", **more}
        made = self.admin.image.post("/images", json=image)
        made.raise_for_status()
        image_id = made.json()["id"]
        if path is not None:
            with path.open("rb") as data:
                headers = {"Content-Type": "application/octet-stream"}
                self.admin.image.put(f"/images/{image_id}/file", data=data, headers=headers).raise_for_status()
        return self.record(image_id)

    def record(self, image_id: str) -> dict[str, Any]:
        """Return Glance's record of an image."""
        record: dict[str, Any] = self.admin.image.get(f"/images/{image_id}").json()
        return record

    def deactivate(self, image_id: str) -> None:
        """Stop everybody but administrators from reading the bytes of an image."""
        self.admin.image.deactivate_image(image_id)

    def delete(self, image_id: str) -> None:
        """Delete an image."""
        self.admin.image.delete_image(image_id)

    def forget_checksum(self, image_id: str) -> None:
        """Make an image one from before Rocky, when Glance had no ``os_hash_value``."""
        with closing(sqlite3.connect(self.root / "glance.db", isolation_level=None)) as database:
            database.execute("UPDATE images SET os_hash_algo = NULL, os_hash_value = NULL WHERE id = ?", (image_id,))

    def stored(self, image_id: str) -> Path:
        """Return the file in which Glance has the bytes of an image."""
        return self.root / "store" / image_id

    def damage(self, image_id: str) -> None:
        """Change the bytes of an image where Glance stores them."""
        with self.stored(image_id).open("r+b") as stored:
            stored.write(b"rotten")

    def downloads(self, image_id: str) -> list[int]:
        """Return the first byte of each request for the bytes of an image."""
        requests = (self.root / "requests").read_text()
        return [
            int(first or 0)
            for first in re.findall(f"^GET /v2/images/{image_id}/file (?:bytes=(.*)-)?$", requests, re.M)
        ]

    def served_bytes(self, image_id: str) -> int:
        """Return how many bytes of an image were sent, of all requests that have ended."""
        served = (self.root / "served").read_text()
        return sum(map(int, re.findall(rf"^GET /v2/images/{image_id}/file (\d+)$", served, re.M)))

    def wait_until_in_the_middle(self, image_id: str) -> None:
        """Wait until Glance has read more of an image from its store than all buffers on the way to a host hold."""
        assert self._glance is not None
        stored, workers = str(self.stored(image_id)), self._glance.workers()
        wait_until(
            lambda: any(_position(worker, stored) > _BUFFERED_BYTES for worker in workers),
            "a transfer",
            seconds=_MOST_SECONDS,
        )

    def tokens(self) -> set[str]:
        """Return all tokens that Keystone gave away."""
        return set((self.root / "tokens").read_text().split())

    def _cloud(self, auth: Auth) -> dict[str, Any]:
        is_password = "password" in auth
        return {
            "auth_type": "password" if is_password else "v3applicationcredential",
            "auth": {"auth_url": self.identity, **auth},
            "region_name": REGION,
            "cacert": str(self.ca_cert),
        }

    def _run(self, *command: str) -> None:
        program, *arguments = command
        config = "glance-api.conf" if program.startswith("glance") else "keystone.conf"
        subprocess.run(
            [_PROGRAMS / program, "--config-file", self.root / config, *arguments], check=True, capture_output=True
        )

    def _serve(self, name: str, port: int) -> _Server:
        environment = {
            **{variable: value for variable, value in os.environ.items() if not variable.startswith(_SETTINGS)},
            "OS_GLANCE_CONFIG_DIR": str(self.root),
            "OS_KEYSTONE_CONFIG_DIR": str(self.root),
            "SERVER_CERTIFICATE": str(self.ca_cert),
            "REQUESTS": str(self.root / "requests"),
            "SERVED": str(self.root / "served"),
            "TOKENS": str(self.root / "tokens"),
        }
        return _Server(f"{name}.wsgi.api:application", self._address, port, self.root / f"{name}.log", environment)


class _Server:
    """A WSGI application in gunicorn, in a process group of its own."""

    def __init__(self, application: str, address: str, port: int, log: Path, environment: dict[str, str]) -> None:
        self._address = address
        self._port = port
        self._log = log
        with log.open("a") as output:
            self._process = subprocess.Popen(
                [_PROGRAMS / "gunicorn", "--config", _GUNICORN_SETTINGS, "--bind", f"{address}:{port}", application],
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait(self, ca_cert: Path) -> None:
        """Wait until it answers."""
        context = ssl.create_default_context(cafile=ca_cert)

        def answers() -> bool:
            assert self._process.poll() is None, self._log.read_text()
            connection = HTTPSConnection(self._address, self._port, context=context, timeout=_MOST_SECONDS)
            with closing(connection), suppress(ConnectionRefusedError):  # it does not listen yet
                connection.request("GET", "/")
                return connection.getresponse().status < 500
            return False

        wait_until(answers, f"an answer of {self._log.stem}", seconds=_MOST_SECONDS)

    def workers(self) -> list[int]:
        """Return the processes that serve."""
        return [
            int(child)
            for child in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        ]

    def kill(self) -> None:
        """End all of its processes at once."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _password_auth(user: str, password: str, project: str) -> Auth:
    domains = {"user_domain_id": _DOMAIN, "project_domain_id": _DOMAIN}
    return {"username": user, "password": password, "project_name": project, **domains}


def _position(process: int, path: str) -> int:
    """Return how far a process has read a file, in bytes; 0 where it does not have it open."""
    found = 0
    for link in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed
            if os.readlink(link) == path:
                details = Path(f"/proc/{process}/fdinfo/{link.name}").read_text()
                found = max(found, int(details.split()[1]))
    return found


@contextmanager
def image_service(root: Path, address: str = "127.0.0.1") -> Iterator[ImageService]:
    """Run Keystone and Glance for as long as tests need them."""
    service = ImageService(root, address)
    try:
        service.start()
        yield service
    finally:
        service.stop()
