users system_user
[ -L /var/mail ] || mv /var/mail /var/mail.before
mkdir "$DIR/spool"
chown root:mail "$DIR/spool"
chmod 1775 "$DIR/spool"
ln -sfn "$DIR/spool" /var/mail
exec env POP3_INTEROP_SERVE=/usr/sbin/popa3d "$SELF"
