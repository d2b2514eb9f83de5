# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The site, as `./test site` builds it: Sphinx over what antsibull-docs writes out of the collection."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

project = "stackops.nova"
project_copyright = "2026, stackops.nova contributors"
html_short_title = "stackops.nova"
extensions = ["sphinx_antsibull_ext"]
pygments_style = "ansible"
highlight_language = "YAML+Jinja"
html_theme = "sphinx_ansible_theme"
html_theme_options = {"topbar_links": {}}
html_show_sphinx = False
html_use_smartypants = True
html_use_index = False
html_copy_source = False
default_role = "any"

# What Ansible's own pages and those of other collections say is not in this site.
OTHERS = (
    "ansible_collections.ansible.builtin.",
    "ansible_collections.openstack.cloud.",
    "action_plugins",
    "ansible_configuration_settings",
    "common_return_values",
)


def leave_plain(
    _app: Sphinx, _env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.TextElement | None:
    """Show a reference to another's page as text; any other that leads nowhere stays an error."""
    return content if node.get("reftarget", "").startswith(OTHERS) else None


def point_home(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None
) -> None:
    """Let the theme's link to the documentation lead to this site, from pages at any depth."""
    context["theme_documentation_home_url"] = context["pathto"](app.config.root_doc)


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", point_home)
    app.connect("missing-reference", leave_plain)
