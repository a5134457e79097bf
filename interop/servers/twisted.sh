exec /usr/bin/python3 "$DIR/server.py" "$DIR" "$POP3_PORT" "$POP3S_PORT" "$USERS"
