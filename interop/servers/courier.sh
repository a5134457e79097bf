cat "$DIR/key.pem" "$DIR/cert.pem" >"$DIR/pop3d.pem"
chown courier "$DIR/pop3d.pem"
chmod 600 "$DIR/pop3d.pem"

uid=$(id -u mail)
mkdir -p "$DIR/mail"
chown mail:mail "$DIR/mail"
: >/etc/courier/userdb
chmod 600 /etc/courier/userdb
courier_user() {
	password=secret$1
	home=$DIR/mail/u$1
	printf 'u%s\tuid=%s|gid=8|home=%s|mail=%s|systempw=%s' "$1" "$uid" "$home" "$home/Maildir" "$(openssl passwd -1 "$password")"
	for hash in md5 sha1 sha256; do
		printf '|hmac-%spw=%s' $hash "$(printf '%s\n%s\n' "$password" "$password" | userdbpw -hmac-$hash 2>/dev/null)"
	done
	echo
}
users courier_user >>/etc/courier/userdb
makeuserdb

socket=/run/courier/authdaemon
cat >/etc/courier/authdaemonrc <<X
authmodulelist="authuserdb"
authmodulelistorig="authuserdb"
daemons=4
authdaemonvar=$socket
DEBUG_LOGIN=0
DEFAULTOPTIONS=""
LOGGEROPTS=""
X
mkdir -p $socket
chown courier:courier /run/courier $socket
chmod 755 $socket
set +u # the configuration files look at what need not be set
set -a
. /etc/courier/authdaemonrc
/usr/lib/courier/courier-authlib/authdaemond 2>"$DIR/authdaemon.log" &
while [ ! -S $socket/socket ]; do sleep 0.05; done

prefix=/usr exec_prefix=/usr sbindir=/usr/sbin bindir=/usr/bin libexecdir=/usr/lib/courier
. /etc/courier/pop3d
. /etc/courier/pop3d-ssl
POP3AUTH="PLAIN LOGIN CRAM-MD5 CRAM-SHA1 CRAM-SHA256"
POP3AUTH_TLS="PLAIN LOGIN CRAM-MD5"
POP3_TLS_REQUIRED=0
TLS_CERTFILE=$DIR/pop3d.pem
TLS_CACHEFILE=
TLS_TRUSTCERTS=/etc/ssl/certs
set +a

listen="/usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=2000 -maxperip=1000 -nodnslookup -noidentlookup"
serve="/usr/lib/courier/courier/courierpop3login /usr/lib/courier/courier/courierpop3d Maildir"
# couriertcpd leaves the process group: this one ends with the other, which takes the shell's place.
POP3_TLS=1 POP3_STARTTLS=NO setpriv --pdeathsig KILL $listen "$POP3S_PORT" /usr/bin/couriertls -server -tcpd -user=courier $serve 2>"$DIR/pop3s.log" &
exec $listen "$POP3_PORT" $serve 2>"$DIR/pop3.log"
