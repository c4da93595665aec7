# Varnish behind Envoy with the filter. The header x-ab-cache-key distinguishes the objects of a page. docs/caches.md
# explains the details. Tests: tests/e2e_caches.rs, tests/e2e_hostile.rs.
#
#   client ──► Envoy: edgesplit ──► Varnish ──► origin
#
# In Envoy, the route's cluster is this Varnish (envoy/envoy.yaml with cluster `origin` on port 8004). Clients must not
# reach it without passing the filter, because it trusts the header.
#
#   varnishd -F -a 127.0.0.1:8004 -f envoy/varnish.vcl -s malloc,256m
vcl 4.1;

backend origin {
    .host = "127.0.0.1";
    .port = "8001";
}

sub vcl_recv {
    # Some versions pipe unknown methods, and Envoy's later requests on that connection would bypass the cache.
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    # Varnish does not look up requests with cookies. The header already contains the information of the filter's
    # cookies, so they are removed. Other cookies still keep a request out of the cache: remove those that no page uses.
    if (req.http.Cookie) {
        set req.http.Cookie = regsuball("; " + req.http.Cookie, "; *(ab_visitor|ab_sticky)=[^;]*", "");
        set req.http.Cookie = regsub(req.http.Cookie, "^[; ]+", "");
        if (req.http.Cookie == "") {
            unset req.http.Cookie;
        }
    }
}

sub vcl_hash {
    # The built-in sub runs afterwards and adds URL and host. Without variants there is no header, so the baseline and
    # visitors in no experiment share one object.
    hash_data(req.http.x-ab-cache-key);
}
