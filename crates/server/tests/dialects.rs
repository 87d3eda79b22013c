//! Tools, formats and thoughts through every API: what the engine is asked, what clients get, and
//! that a stream says what the whole answer does, however the text is cut.

mod common;

use common::told::{
    ANSWER, APIS, CHAT, MESSAGES, OLLAMA, QWEN, RESPONSES, Told, ask, check_refused, may_be,
    prompt, qwen, roomy, say_cut, schema,
};
use common::{Client, Script, draws, say};
use serde_json::{Value, json};
use sterna_engine::Request;
use sterna_server::{Options, OptionsError};

#[tokio::test]
async fn every_api_tells_thoughts_calls_and_text_apart() {
    for (api, end) in
        [(CHAT, "tool_calls"), (RESPONSES, "completed"), (MESSAGES, "tool_use"), (OLLAMA, "stop")]
    {
        let client = qwen(ANSWER);
        let whole = Told::whole(api, &client.post(api, ask(api, json!({}))).await);
        let expected = Told {
            thoughts: "Rain?".into(),
            text: "Let me look.".into(),
            calls: vec!["weather {\"city\":\"Ulm\"}".into()],
            end: end.into(),
        };
        assert_eq!(whole, expected, "{api}");
        let tools = "{\"type\": \"function\", \"function\": {\"name\": \"weather\", \
                     \"description\": \"d\"";
        assert!(prompt(&client).contains(tools), "{api}: {}", prompt(&client));
        assert_eq!(Told::streamed(&client, api, ask(api, json!({}))).await, whole, "{api}");
    }
}

#[tokio::test]
async fn however_an_answer_is_cut_all_apis_say_the_same() {
    let mut draw = draws(20_261_122);
    let parts = [
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "{\"name\": \"weather\", \"arguments\": {\"city\": \"Zürich\"}}",
        "{\"name\": \"fly\"}",
        "{\"name\": \"weather\"}",
        "<",
        "/think>",
        "text",
        "é",
        " ",
        "\n",
    ];
    for _ in 0..150 {
        let answer: String = (0..draw(9)).map(|_| parts[draw(parts.len())]).collect();
        let cuts: Vec<usize> = (0..draw(6)).map(|_| draw(answer.len() + 1)).collect();
        let every: Vec<usize> = (0..answer.len()).collect();
        let mut first: Option<Told> = None;
        for cuts in [Vec::new(), cuts, every] {
            let said = answer.clone();
            let script = move |_: &Request| say_cut(&said, &cuts);
            let client = roomy(Options::default(), Some(QWEN), script);
            for api in APIS {
                let mut whole =
                    Told::whole(api, &client.post(api, ask(api, json!({ "stream": false }))).await);
                let streamed = Told::streamed(&client, api, ask(api, json!({}))).await;
                assert_eq!(streamed, whole, "{api}: {answer:?}");
                whole.end = String::new();
                let first = first.get_or_insert_with(|| whole.clone());
                assert_eq!(*first, whole, "{api}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn calls_can_be_enforced_in_each_apis_words() {
    let call =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Ulm\"}}\n</tool_call>";
    let twice = format!("{call}\n{call}");
    let named = json!({ "type": "function", "name": "weather" });
    let tool = json!({ "type": "tool", "name": "weather" });
    let once = json!({ "type": "any", "disable_parallel_tool_use": true });
    for (api, more, may_repeat) in [
        (RESPONSES, json!({ "tool_choice": "required" }), true),
        (RESPONSES, json!({ "tool_choice": named, "parallel_tool_calls": false }), false),
        (MESSAGES, json!({ "tool_choice": { "type": "any" } }), true),
        (MESSAGES, json!({ "tool_choice": once }), false),
        (MESSAGES, json!({ "tool_choice": tool }), true),
    ] {
        let client = qwen(call);
        let answer = client.post(api, ask(api, more.clone())).await;
        assert_eq!(Told::whole(api, &answer).calls.len(), 1, "{answer}");
        let request = client.only_request();
        assert!(may_be(&request, call) && !may_be(&request, "Hi"), "{more}");
        assert!(!may_be(&request, &call.replace("Ulm", "Paris")), "{more}");
        assert_eq!(may_be(&request, &twice), may_repeat, "{more}");
    }
    for (api, more) in [
        (RESPONSES, json!({ "tool_choice": "none" })),
        (MESSAGES, json!({ "tool_choice": { "type": "none" } })),
    ] {
        let client = qwen(ANSWER);
        let told = Told::whole(api, &client.post(api, ask(api, more)).await);
        assert!(told.calls.is_empty() && told.text.contains("<tool_call>"), "{told:?}");
        assert!(!prompt(&client).contains("weather"), "the model sees no tools");
    }
}

#[tokio::test]
async fn formats_hold_the_answer_in_each_apis_words() {
    let object = json!({ "type": "json_object" });
    let named = json!({ "type": "json_schema", "name": "n", "schema": schema(), "strict": true });
    let anthropic = json!({ "type": "json_schema", "schema": schema() });
    for (api, more, is_any) in [
        (RESPONSES, json!({ "text": { "format": object } }), true),
        (RESPONSES, json!({ "text": { "format": named } }), false),
        (MESSAGES, json!({ "output_config": { "format": anthropic } }), false),
        (OLLAMA, json!({ "format": "json" }), true),
        (OLLAMA, json!({ "format": schema() }), false),
    ] {
        let client = qwen("{}");
        let mut body = ask(api, more.clone());
        body["tools"] = json!([]);
        let answer = client.post(api, body).await;
        assert!(answer.get("warnings").is_none(), "{answer}");
        let request = client.only_request();
        assert!(may_be(&request, "{\"city\": \"Ulm\"}"), "{more}");
        assert_eq!(may_be(&request, "{\"x\": [1]}"), is_any, "{more}");
        assert!(!may_be(&request, "[1]"), "{more}");
        // It is the answer from its first byte on, thoughts or not.
        assert_eq!(Told::whole(api, &answer).text, "{}");
    }
    let client = qwen("{}");
    let body = json!({ "prompt": "a", "format": schema(), "stream": false });
    client.post("/api/generate", body).await;
    assert!(may_be(&client.only_request(), "{\"city\": \"Bern\"}"));
}

#[tokio::test]
async fn earlier_thoughts_calls_and_results_reach_the_template() {
    let arguments = "{\"city\": \"Bern\"}";
    let openai_call = json!({ "id": "c1", "type": "function",
        "function": { "name": "weather", "arguments": arguments } });
    let bare_call = json!({ "function": { "name": "weather", "arguments": { "city": "Bern" } } });
    let (user, after) = (json!({ "role": "user", "content": "a" }), json!("b"));
    let input = json!([user,
        { "type": "reasoning", "id": "rs_1", "summary": [],
          "content": [{ "type": "reasoning_text", "text": "Hm." }] },
        { "type": "message", "role": "assistant", "content": "Well." },
        { "type": "function_call", "call_id": "c1", "name": "weather", "arguments": arguments },
        { "type": "function_call_output", "call_id": "c1", "output": "rain" },
        { "role": "user", "content": after }]);
    let blocks = json!([{ "type": "thinking", "thinking": "Hm.", "signature": "" },
        { "type": "text", "text": "Well." },
        { "type": "tool_use", "id": "c1", "name": "weather", "input": { "city": "Bern" } }]);
    let results = json!([{ "type": "tool_result", "tool_use_id": "c1",
          "content": [{ "type": "text", "text": "rain" }] },
        { "type": "text", "text": "b" }]);
    let chat = json!([user,
        { "role": "assistant", "content": "Well.", "reasoning": "Hm.", "tool_calls": [openai_call] },
        { "role": "tool", "tool_call_id": "c1", "content": "rain" },
        { "role": "user", "content": after }]);
    let messages = json!([user, { "role": "assistant", "content": blocks },
        { "role": "user", "content": results }]);
    let ollama = json!([user,
        { "role": "assistant", "content": "Well.", "thinking": "Hm.", "tool_calls": [bare_call] },
        { "role": "tool", "tool_name": "weather", "content": "rain" },
        { "role": "user", "content": after }]);
    for (api, more) in [
        (CHAT, json!({ "messages": chat })),
        (RESPONSES, json!({ "input": input })),
        (MESSAGES, json!({ "messages": messages })),
        (OLLAMA, json!({ "messages": ollama })),
    ] {
        let client = roomy(Options::default(), Some(QWEN), |request| say(request, "x"));
        client.post(api, ask(api, more)).await;
        let prompt = prompt(&client);
        let mut expected = "user:a\nassistant:<think>Hm.</think>Well.<call c1 weather \
                            {\"city\": \"Bern\"}>\ntool:rain for c1\nuser:b"
            .to_owned();
        if api == OLLAMA {
            // Its calls have no ids.
            expected = expected.replace("call c1", "call ").replace(" for c1", "");
        }
        assert!(prompt.ends_with(&expected), "{api}: {prompt}");
    }
    let failed = json!([user, { "role": "assistant", "content": blocks },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "c1",
          "content": "no net", "is_error": true }] }]);
    let client = qwen("x");
    client.post(MESSAGES, ask(MESSAGES, json!({ "messages": failed }))).await;
    assert!(prompt(&client).ends_with("tool:Error: no net for c1"));
}

#[tokio::test]
async fn a_response_with_calls_is_continued() {
    let client = qwen(ANSWER);
    let first = client.post(RESPONSES, ask(RESPONSES, json!({}))).await;
    let items = first["output"].as_array().unwrap();
    let kinds: Vec<&Value> = items.iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call"]);
    let details = &first["usage"]["output_tokens_details"];
    let n_thought = ANSWER.find("</think>").unwrap() + "</think>".len();
    assert_eq!(details["reasoning_tokens"], n_thought, "a token is a byte here");
    let id = items[2]["call_id"].as_str().unwrap();
    let output = json!([{ "type": "function_call_output", "call_id": id, "output": "rain" }]);
    let more = json!({ "input": output, "previous_response_id": first["id"] });
    client.post(RESPONSES, ask(RESPONSES, more)).await;
    let expected = format!(
        "user:a\nassistant:<think>Rain?</think>Let me look.<call {id} weather \
         {{\"city\": \"Ulm\"}}>\ntool:rain for {id}"
    );
    assert!(prompt(&client).ends_with(&expected), "{}", prompt(&client));
    // The same, sent by the client itself.
    let mut input = vec![json!({ "role": "user", "content": "a" })];
    input.extend(items.iter().cloned());
    input.extend(output.as_array().unwrap().iter().cloned());
    client.post(RESPONSES, ask(RESPONSES, json!({ "input": input }))).await;
    assert!(prompt(&client).ends_with(&expected), "{}", prompt(&client));
}

#[tokio::test]
async fn events_of_a_response_come_in_the_documented_order() {
    let client = qwen(ANSWER);
    let events = client.events(RESPONSES, ask(RESPONSES, json!({ "stream": true }))).await;
    let mut names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(names, expected);
    let output = &events.last().unwrap().1["response"]["output"];
    for (at, (name, data)) in events.iter().enumerate() {
        assert_eq!(data["sequence_number"], at);
        if name == "response.output_item.done" {
            let index = data["output_index"].as_u64().unwrap() as usize;
            assert_eq!(data["item"], output[index]);
        }
        if let Some(id) = data["item_id"].as_str() {
            let index = data["output_index"].as_u64().unwrap() as usize;
            assert_eq!(output[index]["id"], id, "{name}");
        }
    }
}

#[tokio::test]
async fn blocks_of_a_message_come_one_after_another() {
    let client = qwen(ANSWER);
    let events = client.events(MESSAGES, ask(MESSAGES, json!({ "stream": true }))).await;
    let shown = events.iter().filter_map(|(_, data)| {
        let index = data["index"].as_u64()?;
        let kind = &data["content_block"]["type"];
        let kind = if kind.is_null() { &data["delta"]["type"] } else { kind };
        Some(format!("{index} {}", kind.as_str().unwrap_or("stop")))
    });
    let mut shown: Vec<String> = shown.collect();
    shown.dedup();
    let expected = [
        "0 thinking",
        "0 thinking_delta",
        "0 stop",
        "1 text",
        "1 text_delta",
        "1 stop",
        "2 tool_use",
        "2 input_json_delta",
        "2 stop",
    ];
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn an_answer_that_is_cut_while_it_thinks_is_incomplete() {
    let client = qwen(ANSWER);
    let more = json!({ "stream": true, "max_output_tokens": 12 });
    let events = client.events(RESPONSES, ask(RESPONSES, more)).await;
    let (name, data) = events.last().unwrap();
    let response = &data["response"];
    assert_eq!((name.as_str(), &response["status"]), ("response.incomplete", &json!("incomplete")));
    assert_eq!(response["incomplete_details"], json!({ "reason": "max_output_tokens" }));
    assert_eq!(response["completed_at"], Value::Null);
    let item = &response["output"][0];
    assert_eq!((&item["type"], &item["status"]), (&json!("reasoning"), &json!("incomplete")));
    assert_eq!(item["content"][0]["text"], "Rain");
    let details = &response["usage"]["output_tokens_details"];
    assert_eq!(details["reasoning_tokens"], 12, "all of them");
    let done = events.iter().find(|(_, data)| data["type"] == "response.completed");
    assert!(done.is_none());
}

// proves A16
#[tokio::test]
async fn thoughts_are_where_the_client_wants_them() {
    let answer = "<think>a</think>b";
    let text = async |client: Client, api: &str, more: Value| {
        let mut body = ask(api, more);
        body["tools"] = json!([]);
        let answer = client.post(api, body).await;
        let told = Told::whole(api, &answer);
        (told.thoughts, told.text, answer["warnings"].to_string(), prompt(&client))
    };
    let apart = ("a".to_owned(), "b".to_owned());
    let within = (String::new(), answer.to_owned());
    for (api, more, expected) in [
        (CHAT, json!({}), &apart),
        (CHAT, json!({ "reasoning_format": "deepseek" }), &apart),
        (CHAT, json!({ "reasoning_format": "none" }), &within),
        (RESPONSES, json!({}), &apart),
        (MESSAGES, json!({}), &apart),
        (MESSAGES, json!({ "thinking": null }), &within),
        (MESSAGES, json!({ "thinking": { "type": "disabled" } }), &within),
        (OLLAMA, json!({}), &apart),
        (OLLAMA, json!({ "think": true }), &apart),
        (OLLAMA, json!({ "think": false }), &within),
    ] {
        let (thoughts, said, warnings, prompt) = text(qwen(answer), api, more.clone()).await;
        assert_eq!((thoughts, said), *expected, "{api} {more}");
        assert_eq!(warnings, "null");
        let is_off = more["think"] == false || more["thinking"]["type"] == "disabled";
        assert_eq!(prompt.ends_with("hush"), is_off, "{prompt}");
    }
    // Where no template shows thoughts, there are none, unless the server was told their form.
    let plain = |name: Option<&str>| {
        let reasoning_parser = name.map(str::to_owned);
        let options = Options { reasoning_parser, ..Options::default() };
        roomy(options, None, move |request| say(request, answer))
    };
    assert_eq!(text(plain(None), CHAT, json!({})).await.1, answer);
    assert_eq!(text(plain(Some("qwen3")), CHAT, json!({})).await.1, "b");
    let off = Options { reasoning_parser: Some("none".into()), ..Options::default() };
    let off = roomy(off, Some(QWEN), move |request| say(request, answer));
    assert_eq!(text(off, CHAT, json!({})).await.1, answer);
    let (.., warnings, _) = text(plain(None), OLLAMA, json!({ "think": "low" })).await;
    assert!(warnings.contains("low") && warnings.contains("think is ignored"), "{warnings}");
    let unknown = Options { reasoning_parser: Some("x".into()), ..Options::default() };
    let model = common::served("a", None, common::fake(|_| Script::Wait));
    let error = sterna_server::router(common::models(model, &unknown), unknown).unwrap_err();
    assert_eq!(error, OptionsError::ReasoningParser("x".into()));
    assert!(error.to_string().contains("auto, none, deepseek_r1"), "{error}");
}

#[tokio::test]
async fn a_prompt_may_have_begun_the_thoughts() {
    let template = "{{ messages[0].content }}</think><think>\n";
    let answer = "Hm.</think>Yes.";
    let client = roomy(Options::default(), Some(template), move |r| say(r, answer));
    for api in APIS {
        let mut body = ask(api, json!({}));
        body["tools"] = json!([]);
        let told = Told::whole(api, &client.post(api, body).await);
        assert_eq!((told.thoughts.as_str(), told.text.as_str()), ("Hm.", "Yes."), "{api}");
    }
}

/// A schema that is none, in a place.
fn wrong_schema() -> Value {
    json!({ "type": "object", "properties": { "a": { "type": "strange" } } })
}

// proves A16
#[tokio::test]
async fn what_is_wrong_is_named_in_openais_words() {
    let bad = wrong_schema();
    let cases = [
        (json!({ "tools": [{ "type": "web_search" }] }), "tools[0].type"),
        (json!({ "tools": [{ "name": "f" }] }), "tools[0].type"),
        (json!({ "tools": [{ "type": "function" }] }), "tools[0].name"),
        (
            json!({ "tools": [{ "type": "function", "name": "f", "parameters": bad }],
                    "tool_choice": "required" }),
            "tools[0].parameters.properties.a",
        ),
        (json!({ "tool_choice": { "type": "file_search" } }), "tool_choice.type"),
        (json!({ "tool_choice": "maybe" }), "tool_choice"),
        (json!({ "tool_choice": { "type": "function", "name": "x" } }), "tool_choice.name"),
        (json!({ "text": { "format": { "type": "xml" } } }), "text.format.type"),
        (
            json!({ "tools": [], "text": { "format": { "type": "json_schema", "schema": bad } } }),
            "text.format.schema.properties.a",
        ),
        (
            json!({ "input": [{ "type": "function_call", "name": "f", "arguments": "{}" }] }),
            "input[0].call_id",
        ),
        (
            json!({ "input": [{ "type": "function_call_output", "call_id": "c", "output": 7 }] }),
            "input[0].output",
        ),
        (json!({ "input": [{ "type": "item_reference" }] }), "input[0].type"),
    ];
    check_refused(RESPONSES, cases).await;
}

// proves A16
#[tokio::test]
async fn what_is_wrong_is_named_in_anthropics_words() {
    let bad = wrong_schema();
    let blocks = |role: &str, block: Value| {
        json!({ "messages": [{ "role": role, "content": [block] },
                             { "role": "user", "content": "b" }] })
    };
    let cases = [
        (json!({ "tools": [{ "type": "bash_20250124" }] }), "tools[0].type"),
        (json!({ "tools": [{ "input_schema": {} }] }), "tools[0].name"),
        (
            json!({ "tools": [{ "name": "f", "input_schema": bad }],
                    "tool_choice": { "type": "any" } }),
            "tools[0].input_schema.properties.a",
        ),
        (json!({ "tool_choice": { "type": "tool" } }), "tool_choice.name"),
        (json!({ "tool_choice": { "type": "tool", "name": "x" } }), "tool_choice.name"),
        (json!({ "thinking": { "type": "loud" } }), "thinking.type"),
        (
            json!({ "output_config": { "format": { "type": "json_schema" } } }),
            "output_config.format.schema",
        ),
        (blocks("assistant", json!({ "type": "tool_use" })), "messages[0].content[0].id"),
        (blocks("user", json!({ "type": "tool_use", "id": "a" })), "messages[0].content[0].type"),
        (blocks("user", json!({ "type": "tool_result" })), "messages[0].content[0].tool_use_id"),
        (
            blocks(
                "user",
                json!({ "type": "tool_result", "tool_use_id": "a",
                                   "content": [{ "type": "image" }] }),
            ),
            "messages[0].content[0].content[0].type",
        ),
    ];
    check_refused(MESSAGES, cases).await;
}

// proves A16
#[tokio::test]
async fn what_is_wrong_is_named_in_ollamas_words() {
    let bad = wrong_schema();
    let cases = [
        (json!({ "tools": [{ "type": "function" }] }), "tools[0].function"),
        (json!({ "tools": [], "format": "xml" }), "format"),
        (json!({ "tools": [], "format": bad }), "format.properties.a"),
        (json!({ "think": "much" }), "think"),
    ];
    check_refused(OLLAMA, cases).await;
}

#[tokio::test]
async fn a_warning_has_the_clients_words() {
    let client = qwen("x");
    let strict = json!([{ "type": "function", "name": "f", "strict": true }]);
    let answer = client.post(RESPONSES, ask(RESPONSES, json!({ "tools": strict }))).await;
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("tools[0].strict is ignored"), "{warning}");
}

#[tokio::test]
async fn log_probabilities_stay_with_the_text() {
    let client = qwen(ANSWER);
    let more = json!({ "include": ["message.output_text.logprobs"] });
    let answer = client.post(RESPONSES, ask(RESPONSES, more)).await;
    let message = &answer["output"][1]["content"][0];
    let tokens = message["logprobs"].as_array().unwrap().iter();
    let spelled: String = tokens.filter_map(|token| token["token"].as_str()).collect();
    assert!(spelled.contains("Let me look"), "{spelled}");
    let more = json!({ "logprobs": true });
    let answer = client.post(CHAT, ask(CHAT, more)).await;
    let listed = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(listed.len(), ANSWER.len(), "a chat lists those of all tokens");
}
