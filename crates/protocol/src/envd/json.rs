//! Proto-JSON forms that serde does not give: bytes as base64, 64-bit integers as text, enums by
//! name. Source: the protobuf documentation, "ProtoJSON format".

use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::{Deserialize, Deserializer, Serializer, de};

/// Readers of proto-JSON accept base64 with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `optional bytes` as standard base64.
pub(super) mod bytes_option {
    use base64::Engine as _;

    use super::{Deserialize, Deserializer, LENIENT, STANDARD, Serializer, de};

    pub(in crate::envd) fn serialize<S: Serializer>(
        value: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::envd) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.map(|text| LENIENT.decode(text.as_bytes()).map_err(de::Error::custom)).transpose()
    }
}

/// `int64` as decimal text; a JSON number is read too.
pub(super) mod int64 {
    use super::{Deserialize, Deserializer, Serializer, de};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum TextOrNumber {
        Number(i64),
        Text(String),
    }

    pub(in crate::envd) fn serialize<S: Serializer>(
        value: &i64,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in crate::envd) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<i64, D::Error> {
        match TextOrNumber::deserialize(deserializer)? {
            TextOrNumber::Number(number) => Ok(number),
            TextOrNumber::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// Implements a serde `with` module for a prost enumeration field (`i32` in the struct): written by
/// name, read by name or number; an unknown number is kept, an unknown name refused.
macro_rules! enum_by_name {
    ($module:ident, $type:ty) => {
        pub(super) mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de};

            #[derive(Deserialize)]
            #[serde(untagged)]
            enum NameOrNumber {
                Number(i32),
                Name(String),
            }

            pub(in crate::envd) fn serialize<S: Serializer>(
                value: &i32,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                match <$type>::try_from(*value) {
                    Ok(known) => serializer.serialize_str(known.as_str_name()),
                    Err(_unknown) => serializer.serialize_i32(*value),
                }
            }

            pub(in crate::envd) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<i32, D::Error> {
                match NameOrNumber::deserialize(deserializer)? {
                    NameOrNumber::Number(number) => Ok(number),
                    NameOrNumber::Name(name) => <$type>::from_str_name(&name)
                        .map(i32::from)
                        .ok_or_else(|| de::Error::custom(format!("unknown enum name {name:?}"))),
                }
            }
        }
    };
}

enum_by_name!(file_type, crate::envd::filesystem::FileType);
enum_by_name!(event_type, crate::envd::filesystem::EventType);
enum_by_name!(signal, crate::envd::process::Signal);

/// `google.protobuf.Timestamp` as RFC 3339 in UTC.
pub(super) mod timestamp {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use crate::envd::filesystem::Timestamp;

    pub(in crate::envd) fn serialize<S: Serializer>(
        value: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Timestamp::to_rfc3339).serialize(serializer)
    }

    pub(in crate::envd) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| {
                Timestamp::from_rfc3339(&text)
                    .ok_or_else(|| de::Error::custom(format!("{text:?} is not an RFC 3339 time")))
            })
            .transpose()
    }
}
