# shellcheck shell=bash
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
#
# All that install.sh and uninstall.sh are made of; sourced, never run.  Sets PLR_ROOT,
# our checkout.

PLR_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
# shellcheck source=scripts/lib/say.sh
. "$PLR_ROOT/scripts/lib/say.sh"
# shellcheck source=scripts/lib/find.sh
. "$PLR_ROOT/scripts/lib/find.sh"
# shellcheck source=scripts/lib/links.sh
. "$PLR_ROOT/scripts/lib/links.sh"
# shellcheck source=scripts/lib/services.sh
. "$PLR_ROOT/scripts/lib/services.sh"
# shellcheck source=scripts/lib/setup.sh
. "$PLR_ROOT/scripts/lib/setup.sh"
