# Varnish behind Envoy with the filter: objects are told apart by the header x-ab-cache-key. docs/caches.md tells what to
# mind; the test tests/e2e_caches.rs starts this very file.
#
#   client ──► Envoy: edgesplit ──► Varnish ──► origin
#
# In Envoy the route's cluster is this Varnish (envoy/envoy.yaml with cluster `origin` on port 8004); clients must not
# reach it past the filter, since it believes the header.
#
#   varnishd -F -a 127.0.0.1:8004 -f envoy/varnish.vcl -s malloc,256m
vcl 4.1;

backend origin {
    .host = "127.0.0.1";
    .port = "8001";
}

sub vcl_recv {
    # Varnish does not look up requests with cookies. Ours say nothing that the header does not say: they go. Whatever
    # other cookies your site has, they still keep a request out of the cache; take away those that no page depends on.
    if (req.http.Cookie) {
        set req.http.Cookie = regsuball("; " + req.http.Cookie, "; *(ab_visitor|ab_sticky)=[^;]*", "");
        set req.http.Cookie = regsub(req.http.Cookie, "^[; ]+", "");
        if (req.http.Cookie == "") {
            unset req.http.Cookie;
        }
    }
}

sub vcl_hash {
    # The built-in sub follows and adds URL and host. Without variants there is no header: one object for the baseline
    # and for everybody who is in no experiment.
    hash_data(req.http.x-ab-cache-key);
}
