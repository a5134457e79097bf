mkdir -p "$DIR/conf" "$DIR/spool" "$DIR/run/socket" "$DIR/run/proc" "$DIR/run/lock"
cat >"$DIR/imapd.conf" <<X
configdirectory: $DIR/conf
proc_path: $DIR/run/proc
mboxname_lockpath: $DIR/run/lock
defaultpartition: default
partition-default: $DIR/spool
servername: localhost
admins: cyrus
autocreate_quota: 0
autocreate_post: yes
umask: 077
sievedir: $DIR/conf/sieve
allowplaintext: yes
allowapop: yes
popminpoll: 0
poptimeout: 10
sasl_mech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: $DIR/sasldb2
tls_server_cert: $DIR/cert.pem
tls_server_key: $DIR/key.pem
lmtpsocket: $DIR/run/socket/lmtp
idlesocket: $DIR/run/socket/idle
notifysocket: $DIR/run/socket/notify
duplicatesuppression: no
maxmessagesize: 0
X
cat >"$DIR/cyrus.conf" <<X
START {
  recover cmd="/usr/sbin/cyrus ctl_cyrusdb -C $DIR/imapd.conf -r"
}
SERVICES {
  lmtp  cmd="lmtpd -a -C $DIR/imapd.conf" listen="$DIR/run/socket/lmtp" prefork=0 maxchild=5
  pop3  cmd="pop3d -C $DIR/imapd.conf" listen="127.0.0.1:$POP3_PORT" prefork=1 maxchild=-1 proto="tcp4"
  pop3s cmd="pop3d -s -C $DIR/imapd.conf" listen="127.0.0.1:$POP3S_PORT" prefork=0 maxchild=-1 proto="tcp4"
}
EVENTS {
}
X
cyrus_user() { echo "secret$1" | saslpasswd2 -f "$DIR/sasldb2" -c -p -u localhost "u$1"; }
users cyrus_user
chown -R cyrus:mail "$DIR/conf" "$DIR/spool" "$DIR/run" "$DIR/sasldb2" "$DIR/key.pem" "$DIR/cert.pem"
exec /usr/sbin/cyrmaster -C "$DIR/imapd.conf" -M "$DIR/cyrus.conf" -p "$DIR/master.pid"
