//! The types of parameters, as JSON Schema with an example each. Who reads a parameter decides its
//! type; a test sends the examples, and values of other types, to hold this list to it.

use serde_json::Value;

const ANTHROPIC_TOOLS: &str =
    r#"{"type":"array","examples":[[{"name":"f","input_schema":{"type":"object"}}]]}"#;
const NONE_OF_THEM: &str = r#"{"type":["string","object"],"examples":["none"]}"#;
const TOOL_CHOICES: &str =
    r#"{"type":"string","enum":["auto","any","tool","none"],"examples":["any"]}"#;
const THINKING: &str =
    r#"{"type":"string","enum":["enabled","adaptive","disabled"],"examples":["enabled"]}"#;
const OUTPUT_FORMAT: &str = "{\"type\":\"object\",\"examples\":[\
                             {\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}]}";
const REASONING_FORMATS: &str =
    r#"{"type":"string","enum":["auto","deepseek","none"],"examples":["none"]}"#;

/// By name; where an API means something else by it, by its path and the name.
const KINDS: &[(&str, &str)] = &[
    ("model", r#"{"type":"string","examples":["tiny"]}"#),
    ("messages", r#"{"type":"array","examples":[[{"role":"user","content":"zz"}]]}"#),
    ("tools", r#"{"type":"array","examples":[[{"type":"function","function":{"name":"f"}}]]}"#),
    ("/v1/responses tools", r#"{"type":"array","examples":[[{"type":"function","name":"f"}]]}"#),
    (
        "/v1/responses/input_tokens tools",
        r#"{"type":"array","examples":[[{"type":"function","name":"f"}]]}"#,
    ),
    ("/v1/messages tools", ANTHROPIC_TOOLS),
    ("/v1/messages/count_tokens tools", ANTHROPIC_TOOLS),
    ("prompt", r#"{"type":["string","array"],"examples":["zz"]}"#),
    ("/api/generate prompt", r#"{"type":"string","examples":["zz"]}"#),
    ("/api/embeddings prompt", r#"{"type":"string","examples":["zz"]}"#),
    ("input", r#"{"type":["string","array"],"examples":["zz"]}"#),
    ("instructions", r#"{"type":"string","examples":["Be kind."]}"#),
    ("system", r#"{"type":["string","array"],"examples":["Be kind."]}"#),
    ("/api/generate system", r#"{"type":"string","examples":["Be kind."]}"#),
    ("max_tokens", r#"{"type":"integer","minimum":1,"examples":[3]}"#),
    ("/v1/completions max_tokens", r#"{"type":"integer","minimum":0,"examples":[3]}"#),
    ("max_completion_tokens", r#"{"type":"integer","minimum":1,"examples":[3]}"#),
    ("num_predict", r#"{"type":"integer","minimum":-2,"examples":[3]}"#),
    ("num_ctx", r#"{"type":"integer","minimum":1,"examples":[90]}"#),
    ("n", r#"{"type":"integer","minimum":1,"maximum":128,"examples":[2]}"#),
    ("best_of", r#"{"type":"integer","minimum":1,"examples":[1]}"#),
    ("stop", r#"{"type":["string","array"],"examples":["END"]}"#),
    ("seed", r#"{"type":"integer","examples":[7]}"#),
    ("temperature", r#"{"type":"number","minimum":0,"examples":[0.5]}"#),
    ("top_p", r#"{"type":"number","minimum":0,"maximum":1,"examples":[0.5]}"#),
    ("top_k", r#"{"type":"integer","minimum":-1,"examples":[7]}"#),
    ("min_p", r#"{"type":"number","minimum":0,"maximum":1,"examples":[0.5]}"#),
    ("frequency_penalty", r#"{"type":"number","minimum":-2,"maximum":2,"examples":[0.5]}"#),
    ("presence_penalty", r#"{"type":"number","minimum":-2,"maximum":2,"examples":[0.5]}"#),
    ("repetition_penalty", r#"{"type":"number","minimum":0.01,"maximum":100,"examples":[1.5]}"#),
    ("repeat_penalty", r#"{"type":"number","minimum":0.01,"maximum":100,"examples":[1.5]}"#),
    ("repeat_last_n", r#"{"type":"integer","minimum":-1,"examples":[7]}"#),
    ("logit_bias", r#"{"type":"object","examples":[{"97":-100}]}"#),
    ("logprobs", r#"{"type":"boolean","examples":[true]}"#),
    ("/v1/completions logprobs", r#"{"type":"integer","minimum":0,"maximum":20,"examples":[1]}"#),
    ("top_logprobs", r#"{"type":"integer","minimum":0,"maximum":20,"examples":[1]}"#),
    ("echo", r#"{"type":"boolean","examples":[true]}"#),
    ("ignore_eos", r#"{"type":"boolean","examples":[true]}"#),
    ("stream", r#"{"type":"boolean","examples":[true]}"#),
    ("/api/chat stream", r#"{"type":"boolean","default":true,"examples":[false]}"#),
    ("/api/generate stream", r#"{"type":"boolean","default":true,"examples":[false]}"#),
    ("stream_options", r#"{"type":"object","examples":[{}]}"#),
    ("include_usage", r#"{"type":"boolean","examples":[true]}"#),
    (
        "service_tier",
        r#"{"type":"string","enum":["auto","default","flex","priority"],"examples":["flex"]}"#,
    ),
    (
        "/v1/messages service_tier",
        "{\"type\":\"string\",\"examples\":[\"flex\"],\
         \"enum\":[\"auto\",\"standard_only\",\"default\",\"flex\",\"priority\"]}",
    ),
    ("priority", r#"{"type":"integer","examples":[1]}"#),
    ("agent_id", r#"{"type":"string","minLength":1,"maxLength":256,"examples":["scout"]}"#),
    ("cache_salt", r#"{"type":"string","minLength":1,"maxLength":256,"examples":["mine"]}"#),
    ("cache_salt_from", r#"{"type":["string","integer"],"minimum":0,"examples":[7]}"#),
    ("cache", r#"{"type":"object","examples":[{"no-cache":true}]}"#),
    ("no-cache", r#"{"type":"boolean","examples":[true]}"#),
    ("no-store", r#"{"type":"boolean","examples":[true]}"#),
    ("ttl", r#"{"type":"integer","minimum":0,"maximum":604800,"examples":[60]}"#),
    ("s-maxage", r#"{"type":"integer","minimum":0,"maximum":604800,"examples":[60]}"#),
    ("namespace", r#"{"type":"string","minLength":1,"maxLength":256,"examples":["mine"]}"#),
    ("deadline_ms", r#"{"type":"integer","minimum":1,"maximum":86400000,"examples":[9000]}"#),
    ("expected_output_tokens", r#"{"type":"integer","minimum":1,"examples":[7]}"#),
    ("session_id", r#"{"type":"string","minLength":1,"maxLength":256,"examples":["mine"]}"#),
    ("keep_alive", r#"{"type":["string","number"],"examples":["5m"]}"#),
    ("max_memory_mb", r#"{"type":"integer","minimum":1,"examples":[4096]}"#),
    ("tool_choice", r#"{"type":["string","object"],"examples":["required"]}"#),
    ("/v1/responses/input_tokens tool_choice", NONE_OF_THEM),
    ("/v1/messages tool_choice", r#"{"type":"object","examples":[{"type":"any"}]}"#),
    ("/v1/messages/count_tokens tool_choice", r#"{"type":"object","examples":[{"type":"none"}]}"#),
    ("/v1/messages tool_choice type", TOOL_CHOICES),
    ("/v1/messages tool_choice name", r#"{"type":"string","examples":["f"]}"#),
    ("disable_parallel_tool_use", r#"{"type":"boolean","examples":[true]}"#),
    ("parallel_tool_calls", r#"{"type":"boolean","examples":[false]}"#),
    ("response_format", r#"{"type":"object","examples":[{"type":"json_object"}]}"#),
    ("reasoning_format", REASONING_FORMATS),
    ("/v1/messages thinking type", THINKING),
    ("/v1/messages/count_tokens thinking type", THINKING),
    ("/v1/messages output_config format", OUTPUT_FORMAT),
    ("/v1/messages/count_tokens output_config format", OUTPUT_FORMAT),
    ("/v1/responses text format", r#"{"type":"object","examples":[{"type":"json_object"}]}"#),
    (
        "/v1/responses/input_tokens text format",
        r#"{"type":"object","examples":[{"type":"json_object"}]}"#,
    ),
    ("format", r#"{"type":["string","object"],"examples":["json"]}"#),
    ("structured_outputs", r#"{"type":"object","examples":[{"regex":"a+"}]}"#),
    ("guided_json", r#"{"type":["object","string","boolean"],"examples":[{"type":"object"}]}"#),
    ("guided_regex", r#"{"type":"string","examples":["a+"]}"#),
    ("guided_choice", r#"{"type":"array","examples":[["yes","no"]]}"#),
    ("guided_grammar", r#"{"type":"string","examples":["root ::= \"a\""]}"#),
    ("grammar", r#"{"type":"string","examples":["root ::= \"a\""]}"#),
    ("json_schema", r#"{"type":["object","string","boolean"],"examples":[{"type":"object"}]}"#),
    ("add_generation_prompt", r#"{"type":"boolean","examples":[false]}"#),
    ("chat_template_kwargs", r#"{"type":"object","examples":[{"extra":"zz"}]}"#),
    ("content", r#"{"type":"string","examples":["zz"]}"#),
    ("add_special", r#"{"type":"boolean","examples":[true]}"#),
    ("parse_special", r#"{"type":"boolean","examples":[false]}"#),
    ("with_pieces", r#"{"type":"boolean","examples":[true]}"#),
    ("tokens", r#"{"type":"array","items":{"type":"integer"},"examples":[[98]]}"#),
    ("previous_response_id", r#"{"type":"string","examples":["resp_0123456789abcdef"]}"#),
    ("text", r#"{"type":"object","examples":[{"format":{"type":"text"}}]}"#),
    ("include", r#"{"type":"array","examples":[["message.output_text.logprobs"]]}"#),
    ("store", r#"{"type":"boolean","default":true,"examples":[false]}"#),
    ("metadata", r#"{"type":"object","examples":[{"user_id":"scout"}]}"#),
    ("thinking", r#"{"type":"object","examples":[{"type":"disabled"}]}"#),
    ("output_config", r#"{"type":"object","examples":[{}]}"#),
    ("options", r#"{"type":"object","examples":[{}]}"#),
    (
        "think",
        "{\"type\":[\"boolean\",\"string\"],\"examples\":[true],\
         \"enum\":[true,false,\"low\",\"medium\",\"high\"]}",
    ),
    ("encoding_format", r#"{"type":"string","enum":["float","base64"],"examples":["base64"]}"#),
    ("dimensions", r#"{"type":"integer","minimum":1,"examples":[2]}"#),
    ("truncate", r#"{"type":"boolean","default":true,"examples":[true]}"#),
    ("prediction", r#"{"type":"object","examples":[{"type":"content","content":"zz"}]}"#),
    ("type", r#"{"type":"string","enum":["content"],"examples":["content"]}"#),
    ("/v1/chat/completions content", r#"{"type":["string","array"],"examples":["zz"]}"#),
    ("raw", r#"{"type":"boolean","examples":[true]}"#),
];

/// The type of a parameter of a path.
pub fn of(path: &str, name: &str) -> Option<Value> {
    let own = format!("{path} {name}");
    let find = |wanted: &str| KINDS.iter().find(|(key, _)| *key == wanted);
    let (_, schema) = find(&own).or_else(|| find(name))?;
    Some(serde_json::from_str(schema).expect("the list holds JSON"))
}
