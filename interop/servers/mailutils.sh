cat >"$DIR/pop3d.conf" <<X
mode daemon;
foreground yes;
pidfile $DIR/pop3d.pid;
max-children 2000;
logging { syslog no; };
auth {
  authentication clear; authentication pam:generic:system;
  authorization clear; authorization system;
};
pam { service pop3-interop; };
mailbox {
  mailbox-pattern "mbox://$DIR/mail/\${user}/mbox";
  mailbox-type mbox;
};
tcp-wrappers { enable no; };
apop-database-file "$DIR/apop.passwd";
apop-database-safety none;
tls {
  ssl-certificate-file $DIR/cert.pem;
  ssl-key-file $DIR/key.pem;
};
tls-file-checks { key-file none; cert-file none; };
server 127.0.0.1:$POP3_PORT { tls-mode ondemand; backlog 500; };
server 127.0.0.1:$POP3S_PORT { tls-mode connection; backlog 500; };
X
printf 'auth required pam_unix.so nodelay\naccount required pam_unix.so\nsession optional pam_permit.so\n' \
	>/etc/pam.d/pop3-interop
users system_user
apop_user() { popauth --add --file "$DIR/apop.passwd" --user "u$1" --password "secret$1"; }
users apop_user
exec /usr/sbin/pop3d --no-config --config-file="$DIR/pop3d.conf"
