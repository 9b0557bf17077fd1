#!/bin/sh
# A hook in sh (docs/reference/hooks.md). Its issuer is a directory: each file in it is an account, whose lines are the values
# that are accepted. Run it with the directory as its argument.
set -eu
directory=$1
request=$(cat)

# Names and texts hold no quotes, so this is enough; use jq if you have it.
field() { printf '%s' "$request" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
has() { case $request in *"\"$1\":{"*) ;; *) return 1 ;; esac; }
answer() {
    printf '{"protocol":1,%s}\n' "$1"
    exit 0
}

account=$directory/$(field account)
new='' old=''
if has new; then new=$(cat <&3); fi
if has old; then old=$(cat <&4); fi
accepts() { [ -n "$1" ] && grep -qxF -e "$1" "$account"; }

case $(field step) in
probe)
    list=''
    if accepts "$new"; then list='"new"'; fi
    if accepts "$old"; then list="$list${list:+,}\"old\""; fi
    answer "\"accepts\":[$list]"
    ;;
set)
    accepts "$new" || printf '%s\n' "$new" >>"$account"
    answer '"result":"done"'
    ;;
test)
    if accepts "$new"; then answer '"result":"done"'; fi
    answer '"result":"refused","message":"the account does not accept it"'
    ;;
retire)
    rest=$(grep -vxF -e "$old" "$account" || :)
    printf '%s\n' "$rest" >"$account"
    answer '"result":"done"'
    ;;
esac
exit 1
