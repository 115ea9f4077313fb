#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: agnosticd_user_info
short_description: Tell a lab's users what they need, and keep it as user data
version_added: 1.0.0
description:
  - Writes AgnosticD's user info and user data, for the lab as a whole, for one participant, or for all participants in
    one call with one rewrite of the file.
  - Where C(agnosticd.core.agnosticd_user_info) is installed, it does the writing, in a single call, and a play's
    C(module_defaults) for it apply too; those for this module win. Otherwise the same files are written here, in the
    same format.
  - Values are never part of what is printed for the task. The lines C(user.info) and C(user.body) are printed, as
    AgnosticD's log is read for them; O(hidden) keeps values out of those.
options:
  msg:
    description:
      - A message or several. Each is printed as C(user.info) and kept in C(<ACTION>-user-info.yaml), once.
      - With O(user) it is kept in that participant's data instead, under C(msg).
    type: list
    elements: str
  body:
    description:
      - A longer text, printed as C(user.body) and kept in C(<ACTION>-user-body.yaml), once.
      - With O(user) it is kept in that participant's data instead, under C(body).
      - Excludes O(msg).
    type: str
  data:
    description: Values to merge into C(<ACTION>-user-data.yaml), by name. With O(user) they are that participant's.
    type: dict
  user:
    description: The participant that O(msg), O(body) and O(data) are for. Excludes O(users).
    type: str
  users:
    description:
      - Values of several participants, a dictionary for each name. All are written at once.
      - What is there for a name is updated; other names and other values stay as they are.
    type: dict
  data_prefix:
    description: Put before each name in O(data), and before each name in a participant's values.
    type: str
  facts:
    description:
      - Also make these variables of the host, in check mode too. They are never shown. A name that no variable can have
        is left out.
      - From ansible-core 2.21 on they are like those of M(ansible.builtin.set_fact). In older versions they are facts
        such as other modules return, over which variables of a play win, and which a persistent fact cache would keep.
    type: dict
  hidden:
    description:
      - Texts, such as the values of keys, in whose place C((in the user info)) is printed. The files get the full text.
    type: list
    elements: str
notes:
  - The files lie in C(output_dir), else in C(playbook_dir). C(<ACTION>) is the variable C(ACTION), or C(provision).
    Both are also taken from C(localhost), where AgnosticD sets them.
  - The files have mode 0600 and are replaced in one step. Two processes that write at once wait for each other, save on
    file systems without locks on folders, such as NFS. C(agnosticd.core) doesn't wait when it is called directly.
  - A message with a text of O(hidden) in it is always written and printed here, as C(agnosticd.core) prints what it is
    given.
  - A user data file that can't be read or holds no mapping is an error, and stays as it is.
  - With C(no_log) the result is hidden, and the lines for the user are still printed.
author:
  - rhpds.litemaas contributors (@rhpds)
attributes:
  action:
    description: Runs on the controller, as an action plugin.
    support: full
  check_mode:
    description: Writes and prints nothing in C(check_mode), and says what would change.
    support: full
  diff_mode:
    description: Shows no differences, as these would hold secrets.
    support: none
  idempotent:
    description: Running it again with the same options changes nothing.
    support: full
  platform:
    description: Runs wherever ansible-core does.
    platforms: posix
    support: full
seealso:
  - plugin: rhpds.litemaas.agnosticd_user_data
    plugin_type: lookup
  - module: rhpds.litemaas.litellm_virtual_key
"""

EXAMPLES = r"""
- name: Tell the user the address, and keep it
  rhpds.litemaas.agnosticd_user_info:
    msg:
      - "LiteMaaS API Base URL: https://litellm.example.com/v1"
      - "Key Duration: 7d"
    data:
      litellm_api_base_url: https://litellm.example.com/v1
      litellm_key_duration: 7d

- name: Keep a key, tell the user, and keep it out of the log
  rhpds.litemaas.agnosticd_user_info:
    msg: "LiteMaaS Virtual Key: {{ lab_key }}"
    data:
      litellm_virtual_key: "{{ lab_key }}"
    facts:
      litellm_virtual_key: "{{ lab_key }}"
    hidden:
      - "{{ lab_key }}"

- name: Keep all participants' keys, with one rewrite of the file
  rhpds.litemaas.agnosticd_user_info:
    msg: 2 virtual keys are ready
    data:
      litellm_user_count: 2
    users:
      user1:
        litellm_virtual_key: "{{ workshop_keys['user1'] }}"
        litellm_user_email: user1@lab.opentlc.com
      user2:
        litellm_virtual_key: "{{ workshop_keys['user2'] }}"
        litellm_user_email: user2@lab.opentlc.com
"""

RETURN = r"""
msg:
  description: One line with the numbers of what is new.
  returned: always
  type: str
  sample: "user info: 14 values, 25 participants, 4 messages"
files:
  description: Files whose content changed, or in check mode would have.
  returned: success
  type: list
  elements: str
  sample: ["/tmp/output_dir/provision-user-data.yaml"]
data_changed:
  description: Names of the values of the lab as a whole that changed.
  returned: success
  type: list
  elements: str
  sample: ["litellm_user_count"]
users_changed:
  description: Names of the participants whose values changed.
  returned: success
  type: list
  elements: str
  sample: ["user1", "user2"]
ansible_facts:
  description: What O(facts) gave. Hidden wherever the result is printed.
  returned: when O(facts) is given
  type: dict
"""
