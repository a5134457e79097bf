set -eu
if [ -n "$LAYER" ]; then
	# What the server writes goes to memory, and with the namespace.
	mkdir "$DIR/layer"
	mount -t tmpfs tmpfs "$DIR/layer"
	for dir in usr etc var run; do
		mkdir -p "$DIR/layer/$dir" "$DIR/layer/.work/$dir"
		mount -t overlay overlay -o \
			"lowerdir=$LAYER/$dir:/$dir,upperdir=$DIR/layer/$dir,workdir=$DIR/layer/.work/$dir" "/$dir"
	done
fi

users() { # calls the function $1 with the number of every user
	i=1
	while [ $i -le "$USERS" ]; do
		$1 $i
		i=$((i + 1))
	done
}

system_user() { # its home changes from run to run
	sed -i "/^u$1:/d" /etc/passwd /etc/shadow
	echo "u$1:x:$((FIRST_UID + $1)):8::$DIR/mail/u$1:/bin/sh" >>/etc/passwd
	echo "u$1:$(openssl passwd -1 "secret$1"):19000:0:99999:7:::" >>/etc/shadow
	mkdir -p "$DIR/mail/u$1"
	chown $((FIRST_UID + $1)):8 "$DIR/mail/u$1"
}
