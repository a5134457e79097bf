# bash completion for pop3. Generated from the flags of the command.
_pop3() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} flags=
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		COMPREPLY=($(compgen -W 'fetch watch list check state demo version man completion help' -- "$cur"))
		return
	fi
	if [ "$verb" = state ]; then
		if [ "$COMP_CWORD" -eq 2 ]; then
			COMPREPLY=($(compgen -W 'show forget mark rebuild export import' -- "$cur"))
			return
		fi
		verb="$verb ${COMP_WORDS[2]}"
	fi
	case $verb in
	'fetch') flags='-all-new -auth -ca -cert -config -crlf -debug -delete -delete-after -delete-over -delete-unproven -filter -header-only -insecure -j -json -key -max-messages -max-size -max-total -n -no-uidl -per-host -pin -proxy -q -received -state -timeout -v' ;;
	'watch') flags='-all-new -auth -ca -cert -config -crlf -debug -delete -delete-after -delete-over -delete-unproven -every -filter -header-only -insecure -j -json -key -max-messages -max-size -max-total -no-uidl -per-host -pin -proxy -q -received -state -timeout -v' ;;
	'list') flags='-auth -ca -cert -config -debug -insecure -json -key -pin -proxy -state -subject -timeout' ;;
	'check') flags='-auth -ca -cert -config -debug -insecure -key -offline -pin -proxy -state -timeout' ;;
	'state show') flags='-config -state' ;;
	'state forget') flags='-all -config -refused -state' ;;
	'state mark') flags='-auth -ca -cert -config -debug -insecure -key -pin -proxy -state -timeout' ;;
	'state rebuild') flags='-auth -ca -cert -config -debug -insecure -key -pin -proxy -state -timeout' ;;
	'state export') flags='-config -state' ;;
	'state import') flags='-config -from -state' ;;
	'demo') flags='-keep -n' ;;
	completion) flags='bash zsh fish' ;;
	esac
	case $prev in
	-ca|-cert|-config|-key|-state)
		COMPREPLY=($(compgen -f -- "$cur"))
		return
		;;
	esac
	case $cur in
	-*) COMPREPLY=($(compgen -W "$flags" -- "$cur")) ;;
	*)
		local config=${XDG_CONFIG_HOME:-$HOME/.config}/pop3/config.toml
		local accounts=$(sed -n -e 's/^\["\([^"]*\)"\].*/\1/p' -e 's/^\[\([A-Za-z0-9_-]*\)\].*/\1/p' "$config" 2>/dev/null | grep -vx defaults)
		[ "$verb" = completion ] && accounts=$flags
		COMPREPLY=($(compgen -W "$accounts" -- "$cur") $(compgen -f -- "$cur"))
		;;
	esac
}
complete -o filenames -F _pop3 pop3
