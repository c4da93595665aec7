//! The first stage: the headers of the request, read once.

use super::mutations::HeaderMutations;
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

/// Takes the parameters that the filter owns from the request target, if they are there. Returns the token of a preview link,
/// valid or not.
#[inline(always)]
pub(super) fn take_parameters<'a>(
    config: &PluginConfig,
    request: &mut RequestContext<'a>,
    texts: &'a RequestTexts,
    mutations: &mut HeaderMutations<'a>,
) -> Option<Cow<'a, [u8]>> {
    let owns_parameters = config.request.preview.is_some() || config.request.cache_key.query.is_some();
    if owns_parameters && request.query.is_some() { take_from_query(config, request, texts, mutations) } else { None }
}

#[inline(never)]
fn take_from_query<'a>(
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
