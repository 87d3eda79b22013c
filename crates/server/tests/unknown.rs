//! What no API documents, in bodies, in the objects within them and in queries: it is named, and
//! whatever comes, the server has an answer.

mod common;

use axum::http::{Method, StatusCode};
use common::bodies::{body_of, client, document, objects, parameters, rich, send};
use common::draws;
use serde_json::{Value, json};

// proves A16
#[tokio::test]
async fn a_parameter_that_nobody_documents_is_warned_of() {
    let api = document().await;
    for path in api["paths"].as_object().unwrap().keys() {
        if parameters(&api, path).is_empty() {
            continue;
        }
        let mut body = body_of(path);
        body["zz"] = json!(1);
        let got = send(path, &body, false).await;
        assert_eq!(got.status, StatusCode::OK, "{path}: {}", got.text);
        assert!(got.text.contains("zz is unknown and was ignored"), "{path}: {}", got.text);
        assert_eq!(send(path, &body, true).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
}

// proves A16
#[tokio::test]
async fn what_nobody_knows_within_an_object_is_warned_of_too() {
    let mut n_checked = 0;
    for (path, body) in rich() {
        let mut all = Vec::new();
        objects(&body, "", &mut all);
        for at in all {
            let mut body = body.clone();
            body.pointer_mut(&at).unwrap()["zz"] = json!(1);
            let got = send(path, &body, false).await;
            assert_eq!(got.status, StatusCode::OK, "{path} {at}: {}", got.text);
            assert_eq!(got.text.matches("zz is unknown").count(), 1, "{path} {at}: {}", got.text);
            let strict = send(path, &body, true).await;
            let is_named = strict.text.contains("zz is unknown");
            assert!(strict.status == 400 && is_named, "{path} {at}: {}", strict.text);
            n_checked += 1;
        }
    }
    assert!(n_checked > 60, "{n_checked}");
}

// proves A16
#[tokio::test]
async fn a_query_that_nobody_documents_is_named() {
    let (client, mut n_checked) = (client(), 0);
    for (path, methods) in document().await["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let mut parameters = operation["parameters"].as_array().into_iter().flatten();
            if !parameters.any(|parameter| parameter["in"] == "query") {
                continue;
            }
            let url = format!("{}?z%7A=1&model=tiny", path.replace("{id}", "known"));
            let method: Method = method.to_uppercase().parse().unwrap();
            let response = client.send(method, &url, &[("x-strict", "true")], String::new()).await;
            let (status, text) = (response.status(), common::text(response).await);
            assert!(status == 400 && text.contains("zz is unknown"), "{url}: {text}");
            n_checked += 1;
        }
    }
    assert_eq!(n_checked, 4);
    for (method, url, status) in [
        (Method::GET, "/props?zz=1", 200),
        (Method::DELETE, "/v1/sessions/known?zz=1&model=org%2Ftiny", 200),
        // Its answer is a list, which has no place for warnings.
        (Method::GET, "/slots?zz=1", 400),
    ] {
        let response = client.send(method, url, &[], String::new()).await;
        let (got, text) = (response.status(), common::text(response).await);
        assert!(got == status && text.contains("zz is unknown"), "{url}: {text}");
    }
}

/// Where a parameter stands in a body, in objects that are made for it.
fn place<'a>(body: &'a mut Value, parameter: &[String]) -> &'a mut Value {
    parameter.iter().fold(body, |at, name| {
        if !at.is_object() {
            *at = json!({});
        }
        &mut at[name]
    })
}

/// Bodies of random JSON: whatever comes, the server has an answer, and never a failure of its own.
#[tokio::test]
async fn no_body_makes_the_server_fail() {
    let api = document().await;
    let mut draw = draws(7);
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("zz"),
        json!([]),
        json!([[]]),
        json!([{}]),
        json!([null]),
        json!({}),
        json!({ "type": "text" }),
        json!([{ "role": "user", "content": [{}] }]),
        json!([{ "type": "message", "role": 7 }]),
    ];
    for path in api["paths"].as_object().unwrap().keys() {
        let known = parameters(&api, path);
        for _ in 0..if known.is_empty() { 0 } else { 60 } {
            let own = rich().into_iter().filter(|(of, _)| of == path).map(|(_, body)| body);
            let mut bodies: Vec<Value> = own.chain([json!({}), body_of(path)]).collect();
            let mut body = bodies.swap_remove(draw(bodies.len()));
            for _ in 0..1 + draw(3) {
                let (parameter, _) = &known[draw(known.len())];
                *place(&mut body, parameter) = values[draw(values.len())].clone();
            }
            let mut all = Vec::new();
            objects(&body, "", &mut all);
            let object = body.pointer_mut(&all[draw(all.len())]).unwrap();
            let mut entries = object.as_object_mut().unwrap().values_mut();
            if let Some(entry) = entries.nth(draw(3)) {
                *entry = values[draw(values.len())].clone();
            }
            let got = send(path, &body, false).await;
            assert!(!got.status.is_server_error(), "{path}: {body}: {}", got.text);
        }
    }
}
