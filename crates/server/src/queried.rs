//! The opening of handlers that are asked by a query: its parameters, held against a table.

use crate::app::App;
use crate::asked::asks_strictness;
use crate::errors::ApiError;
use crate::params::{Table, check};
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What somebody asks for without a body.
pub struct Queried {
    /// The server.
    pub app: Arc<App>,
    /// The request's headers.
    pub headers: HeaderMap,
    uri: Uri,
}

impl FromRequestParts<Arc<App>> for Queried {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let (headers, uri) = (parts.headers.clone(), parts.uri.clone());
        Ok(Self { app: app.clone(), headers, uri })
    }
}

impl Queried {
    /// The parameters, whose values are texts, and what there is to warn of.
    ///
    /// # Errors
    /// When the query has a parameter that is refused.
    pub fn read(&self, table: Table) -> Result<(Map<String, Value>, Vec<String>), ApiError> {
        let is_strict = self.app.options.strict || asks_strictness(&self.headers);
        let query = self.parameters()?;
        let warnings = check("", &query, table, is_strict)?;
        Ok((query, warnings))
    }

    /// The parameters of a route whose answer has no place for warnings.
    ///
    /// # Errors
    /// When the query has a parameter that is not known, or refused.
    pub fn read_strictly(&self, table: Table) -> Result<Map<String, Value>, ApiError> {
        let query = self.parameters()?;
        check("", &query, table, true)?;
        Ok(query)
    }

    fn parameters(&self) -> Result<Map<String, Value>, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&self.uri).map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", error.body_text())
        })?;
        Ok(pairs.0.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}
