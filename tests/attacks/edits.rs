//! What somebody may do to the rows of a table.

use proptest::prelude::*;
use proptest::sample::Index;
use rusqlite::types::Value;

pub type Row = Vec<Value>;

/// What is done to one table.
#[derive(Clone, Debug)]
pub enum Edit {
    Flip { row: Index, column: Index, bit: Index },
    Number { row: Index, column: Index, value: i64 },
    Cut { row: Index, column: Index, at: Index },
    Extend { row: Index, column: Index, bytes: Vec<u8> },
    Type { row: Index, column: Index, value: i64 },
    SwapFields { row: Index, other: Index, column: Index },
    CopyField { row: Index, other: Index, column: Index },
    SwapRows { row: Index, other: Index },
    Delete { row: Index },
    DeleteLast { count: usize },
    DeleteAll,
    Replay { row: Index, key: i64 },
    Reverse { column: Index },
}

pub fn edits() -> impl Strategy<Value = Edit> {
    use Edit::*;
    let index = any::<Index>;
    let number = prop_oneof![Just(0), Just(-1), Just(i64::MAX), Just(i64::MIN), 0..60i64, any::<i64>()];
    prop_oneof![
        6 => (index(), index(), index()).prop_map(|(row, column, bit)| Flip { row, column, bit }),
        3 => (index(), index(), number.clone()).prop_map(|(row, column, value)| Number { row, column, value }),
        2 => (index(), index(), index()).prop_map(|(row, column, at)| Cut { row, column, at }),
        1 => (index(), index(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(row, column, bytes)| Extend { row, column, bytes }),
        2 => (index(), index(), 0..5i64).prop_map(|(row, column, value)| Type { row, column, value }),
        2 => (index(), index(), index()).prop_map(|(row, other, column)| SwapFields { row, other, column }),
        2 => (index(), index(), index()).prop_map(|(row, other, column)| CopyField { row, other, column }),
        2 => (index(), index()).prop_map(|(row, other)| SwapRows { row, other }),
        2 => index().prop_map(|row| Delete { row }),
        1 => (1..6usize).prop_map(|count| DeleteLast { count }),
        1 => Just(DeleteAll),
        2 => (index(), number).prop_map(|(row, key)| Replay { row, key }),
        1 => index().prop_map(|column| Reverse { column }),
    ]
}

fn bytes_of(value: &mut Value, change: impl FnOnce(&mut Vec<u8>)) {
    match value {
        Value::Blob(bytes) => change(bytes),
        Value::Text(text) => {
            let mut bytes = std::mem::take(text).into_bytes();
            change(&mut bytes);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        Value::Integer(number) => {
            let mut bytes = number.to_be_bytes().to_vec();
            change(&mut bytes);
            bytes.resize(8, 0);
            *number = i64::from_be_bytes(bytes.try_into().unwrap());
        }
        _ => {}
    }
}

impl Edit {
    pub fn apply(&self, rows: &mut Vec<Row>) {
        let (count, width) = (rows.len(), rows[0].len());
        match self {
            Self::Flip { row, column, bit } => {
                bytes_of(&mut rows[row.index(count)][column.index(width)], |bytes| {
                    if !bytes.is_empty() {
                        let bit = bit.index(8 * bytes.len());
                        bytes[bit / 8] ^= 1 << (bit % 8);
                    }
                })
            }
            Self::Number { row, column, value } => {
                let field = &mut rows[row.index(count)][column.index(width)];
                *field = match field {
                    Value::Blob(_) => Value::Blob(value.to_be_bytes().to_vec()),
                    Value::Text(_) => Value::Text(value.to_string()),
                    _ => Value::Integer(*value),
                };
            }
            Self::Cut { row, column, at } => {
                bytes_of(&mut rows[row.index(count)][column.index(width)], |bytes| {
                    bytes.truncate(at.index(bytes.len() + 1));
                })
            }
            Self::Extend { row, column, bytes: more } => {
                bytes_of(&mut rows[row.index(count)][column.index(width)], |bytes| bytes.extend(more));
            }
            Self::Type { row, column, value } => {
                rows[row.index(count)][column.index(width)] = match value {
                    0 => Value::Null,
                    1 => Value::Real(0.5),
                    2 => Value::Text("7".into()),
                    3 => Value::Blob(vec![7]),
                    _ => Value::Integer(7),
                };
            }
            Self::SwapFields { row, other, column } => {
                let (row, other, column) = (row.index(count), other.index(count), column.index(width));
                let field = rows[row][column].clone();
                rows[row][column] = std::mem::replace(&mut rows[other][column], field);
            }
            Self::CopyField { row, other, column } => {
                let column = column.index(width);
                rows[row.index(count)][column] = rows[other.index(count)][column].clone();
            }
            Self::SwapRows { row, other } => {
                // All but the key.
                let (row, other) = (row.index(count), other.index(count));
                let (a, b) = (rows[row][0].clone(), rows[other][0].clone());
                rows.swap(row, other);
                (rows[row][0], rows[other][0]) = (a, b);
            }
            Self::Delete { row } => drop(rows.remove(row.index(count))),
            Self::DeleteLast { count: last } => rows.truncate(count.saturating_sub(*last)),
            Self::DeleteAll => rows.clear(),
            Self::Replay { row, key } => {
                let mut copy = rows[row.index(count)].clone();
                copy[0] = match copy[0] {
                    Value::Blob(_) => Value::Blob(key.to_be_bytes().to_vec()),
                    _ => Value::Integer(if *key % 2 == 0 { count as i64 + 1 } else { *key }),
                };
                rows.push(copy);
            }
            Self::Reverse { column } => {
                let column = column.index(width);
                let mut fields: Vec<Value> = rows.iter().map(|row| row[column].clone()).collect();
                fields.reverse();
                rows.iter_mut().zip(fields).for_each(|(row, field)| row[column] = field);
            }
        }
    }
}
