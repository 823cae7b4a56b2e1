# shellcheck shell=sh
# What a host is and has, in one round trip; it changes nothing. $1 is the helper that looks
# at the host, or "-" for one that arrives compressed on standard input and goes again; the
# other arguments are those with which it looks.
helper=/usr/local/sbin/mobula look=$1
shift
echo "arch=$(uname -m)"
echo "uid=$(id -u)"
if [ -x "$helper" ]; then echo "helper=$(sha256sum "$helper" | cut -d ' ' -f 1)"; fi
# The programs that are whole: each lies in a folder named after its content.
echo "programs=$(sha256sum /usr/local/lib/mobula/*/mobula 2>/dev/null |
	awk 'index($2, "/usr/local/lib/mobula/" substr($1, 1, 16) "/") == 1 { print $1 }' | tr '\n' ' ')"
if command -v apt-get >/dev/null; then echo "packages=apt"; else echo "packages=dnf"; fi
if [ "$look" = - ]; then
	look=$(umask 077 && { mktemp "${HOME:-/root}/.mobula.XXXXXX" 2>/dev/null || mktemp; }) || exit 1
	trap 'rm -f "$look"' EXIT
	trap 'exit 1' HUP INT PIPE TERM
	gzip -dc >"$look" && chmod 0700 "$look" || exit 1
fi
if [ -e "$look" ]; then
	printf 'report=%s\n' "$("$look" "$@" | tr -d '\n')" # echo reads backslashes
fi
