#!/bin/sh
# Links the filter's module without the callbacks that it does not use. The SDK exports every callback that there is, and
# the proxy calls each that is exported: for every chunk of a body, for every stream that ends. A callback that is not
# exported costs nothing, and its code falls out of the module. `tests/cost.rs` holds the list of the rest.
set -eu

unused='proxy_on_downstream_connection_close proxy_on_downstream_data proxy_on_foreign_function proxy_on_grpc_close
  proxy_on_grpc_receive proxy_on_grpc_receive_initial_metadata proxy_on_grpc_receive_trailing_metadata proxy_on_log
  proxy_on_new_connection proxy_on_queue_ready proxy_on_request_body proxy_on_request_trailers proxy_on_response_body
  proxy_on_response_trailers proxy_on_upstream_connection_close proxy_on_upstream_data'

exported=
for argument; do
  shift
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
exec "$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld" "$@" --compress-relocations
