cat >/etc/spop3d.conf <<X
<Global>
	MailDropName	"$DIR/mail/%s/mbox"
	MailDropType	mailbox
	UserOverride	yes
	AllowAPOP	yes
	APOPServerName	localhost
	AutoLogoutTime	600s
</Global>
X
chmod 644 /etc/spop3d.conf
solid_user() {
	system_user "$1"
	# The secret for APOP is kept as the inverted octets in hexadecimal digits.
	secret=$(printf 'secret%s' "$1" | od -An -v -tu1 | tr -s ' ' '\n' | while read -r octet; do
		[ -z "$octet" ] || printf '%02x' $((255 - octet))
	done)
	echo "APOPSecret $secret " >"$DIR/mail/u$1/.spop3d"
	chown $((FIRST_UID + $1)):8 "$DIR/mail/u$1/.spop3d"
	chmod 600 "$DIR/mail/u$1/.spop3d"
}
users solid_user
exec env POP3_INTEROP_SERVE=/usr/sbin/solid-pop3d "$SELF"
