#!/bin/sh
# Links the filter's module without the callbacks that it does not use. The SDK exports every callback that there is, and
# the proxy calls each that is exported: for every chunk of a body, for every stream that ends. A callback that is not
# exported costs nothing, and its code falls out of the module. `tests/cost.rs` holds the list of the rest.
set -eu

unused='proxy_on_downstream_connection_close proxy_on_downstream_data proxy_on_foreign_function proxy_on_grpc_close
  proxy_on_grpc_receive proxy_on_grpc_receive_initial_metadata proxy_on_grpc_receive_trailing_metadata proxy_on_log
  proxy_on_new_connection proxy_on_queue_ready proxy_on_request_body proxy_on_request_trailers proxy_on_response_body
  proxy_on_response_trailers proxy_on_upstream_connection_close proxy_on_upstream_data'

# Callbacks of streams: not the SDK's, but those of `src/adapter.rs`, which are linked as `split_on_...`.
own='memory_allocate context_create delete done request_headers response_headers'
for callback in $own; do unused="$unused proxy_on_$callback"; done

exported= output= before=
for argument; do
  shift
  [ "$before" != -o ] || output=$argument
  before=$argument
  if [ "$exported" ]; then
    exported=
    case " $(echo $unused) " in *" $argument "*) continue ;; esac
    set -- "$@" --export "$argument"
  elif [ "$argument" = --export ]; then
    exported=yes
  else
    set -- "$@" "$argument"
  fi
done

host=$(rustc -vV | sed -n 's/^host: //p')
# Addresses and indexes in as few bytes as they need: by default the linker leaves room for five.
"$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld" "$@" --compress-relocations

# A symbol has one name, inside and outside. Both names are equally long, so that nothing else moves.
for callback in $own; do
  rename="s/split_on_$callback/proxy_on_$callback/"
  # Only GNU's sed leaves a file alone that does not end in a line break.
  if sed --version >/dev/null 2>&1; then LC_ALL=C sed -i "$rename" "$output"; else perl -pi -e "$rename" "$output"; fi
done
