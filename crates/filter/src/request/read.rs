//! The first stage: the headers of the request, read once.

use super::mutations::HeaderMutations;
use crate::http::headers::HeaderMap;
use crate::http::owned_names::OwnedNames;
use crate::plugin_config::PluginConfig;
use crate::request_context::{RequestContext, preview_token, target_without_owned};
use std::borrow::Cow;
use std::cell::OnceCell;

/// Texts of a request that are not in its headers as they are.
#[derive(Default)]
pub(super) struct RequestTexts {
    /// The request target without the parameters that the filter owns.
    pub(super) target: OnceCell<Vec<u8>>,
    /// The visitor's id, if it comes from a token or is minted.
    pub(super) id: OnceCell<String>,
}

/// A request as it was received.
pub(super) struct Received<'a> {
    pub(super) request: RequestContext<'a>,
    /// The removal of everything that the client sent under owned names.
    pub(super) mutations: HeaderMutations<'a>,
    /// The token of a preview link, valid or not.
    pub(super) token: Option<Cow<'a, [u8]>>,
}

/// Reads the headers, and notes the owned names among them.
#[inline(always)]
pub(super) fn read<'a>(
    config: &'a PluginConfig,
    owned: &'a OwnedNames,
    headers: &'a HeaderMap,
    texts: &'a RequestTexts,
) -> Received<'a> {
    let mut mutations = HeaderMutations::new(&config.request, owned);
    let lengths = mutations.protected_lengths();
    let protect = |name, value| mutations.protect(name, value);
    let mut request = RequestContext::with(headers, &config.visitor, lengths, protect);
    mutations.target = request.target;
    let owns_parameters = config.request.preview.is_some() || config.request.cache_key.query.is_some();
    let mut token = None;
    if owns_parameters && request.query.is_some() {
        token = take_parameters(config, &mut request, texts, &mut mutations);
    }
    Received { request, mutations, token }
}

/// Takes the parameters that the filter owns from the request target. Returns the token of a preview link.
#[inline(never)]
fn take_parameters<'a>(
    config: &PluginConfig,
    request: &mut RequestContext<'a>,
    texts: &'a RequestTexts,
    mutations: &mut HeaderMutations<'a>,
) -> Option<Cow<'a, [u8]>> {
    let token = preview_token(request, &config.request);
    if let Some(target) = target_without_owned(request, &config.request) {
        request.retarget(texts.target.get_or_init(|| target));
        mutations.new_target = Some(request.target.to_vec());
    }
    token
}
