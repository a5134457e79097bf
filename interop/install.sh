#!/bin/sh
# install.sh NAME...    Install Debian's packages of the POP3 servers named, or of all of them.
#
# Most of these packages exclude one another. Each is therefore installed into a layer of its own over /usr, /etc,
# /var and /run, kept in $POP3_INTEROP_DIR or else the user's cache directory: the machine itself stays as it is.
# This takes root and the right to mount. In a throw-away container that lacks it, POP3_INTEROP_SYSTEM=1 installs
# one server into the container itself, and tells the tests that they may write to its /etc and /var.
set -eu
export DEBIAN_FRONTEND=noninteractive

packages() {
	case $1 in
	dovecot) echo dovecot-pop3d ;;
	courier) echo courier-pop courier-authlib-userdb openssl ;;
	cyrus) echo cyrus-pop3d libsasl2-modules sasl2-bin ;;
	mailutils) echo mailutils-pop3d openssl ;;
	popa3d) echo popa3d openssl ;;
	solid-pop3d) echo solid-pop3d openssl ;;
	twisted) echo python3-twisted python3-openssl python3-service-identity ;;
	*) echo "$0: no server is called $1" >&2; exit 2 ;;
	esac
}

apt() {
	apt-get install -y --no-install-recommends "$@" || { apt-get update && apt-get install -y --no-install-recommends "$@"; }
}

layered() { # NAME LAYER, in a mount namespace of its own
	for dir in usr etc var run; do
		mkdir -p "$2/$dir" "$2/.work/$dir"
		mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$2/$dir,workdir=$2/.work/$dir" "/$dir" || {
			echo "$0: no layer can be kept in $2: set POP3_INTEROP_DIR, or POP3_INTEROP_SYSTEM=1 in a container" >&2
			exit 1
		}
	done
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d # apt starts no server
	chmod 755 /usr/sbin/policy-rc.d
	apt $(packages "$1")
	apt-get clean
	touch "$2/installed"
}

if [ "${1-}" = --layered ]; then
	layered "$2" "$3"
	exit
fi
[ $# -gt 0 ] || set -- dovecot courier cyrus mailutils popa3d solid-pop3d twisted
layers=${POP3_INTEROP_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/pop3-interop}
for name; do
	list=$(packages "$name")
	if [ -n "${POP3_INTEROP_SYSTEM-}" ] || [ "$name" = dovecot ]; then
		apt $list
	elif [ ! -e "$layers/$name/installed" ]; then
		rm -rf "${layers:?}/$name"
		mkdir -p "$layers/$name"
		unshare --mount "$0" --layered "$name" "$layers/$name"
	fi
done
