//! What is checked of a program before it may run: every instruction, by itself.

use thiserror::Error;

use super::{Arithmetic, Condition, Instruction, LONGEST, MEMORY, Operand, Operation, Source, Width};

/// The classes of instructions: the low three bits.
mod class {
    pub(super) const LD: u16 = 0;
    pub(super) const LDX: u16 = 1;
    pub(super) const ST: u16 = 2;
    pub(super) const STX: u16 = 3;
    pub(super) const ALU: u16 = 4;
    pub(super) const JMP: u16 = 5;
    pub(super) const RET: u16 = 6;
}

/// Of what an operation takes, the bit that says it is X.
const BY_X: u16 = 0x08;

/// Why a program is not taken. Instructions count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    #[error("the filter has no instruction")]
    Empty,
    #[error("the filter has {0} instructions, of {LONGEST} at most")]
    TooLong(usize),
    #[error("instruction {at} of the filter has code {code:#06x}, which is none of classic BPF")]
    Unknown { at: usize, code: u16 },
    #[error("instruction {at} of the filter jumps back or beyond its end (protochain cannot be asked for)")]
    Beyond { at: usize },
    #[error("instruction {at} of the filter uses word {word} of a memory of {MEMORY}")]
    NoSuchWord { at: usize, word: u32 },
    #[error("instruction {at} of the filter divides by 0")]
    DivisionByZero { at: usize },
    #[error("instruction {at} of the filter shifts 32 bits by {by}")]
    Shift { at: usize, by: u32 },
    #[error("the filter does not end by returning")]
    NoReturn,
}

pub(super) fn operations(instructions: &[Instruction]) -> Result<Box<[Operation]>, Invalid> {
    if instructions.len() > LONGEST {
        return Err(Invalid::TooLong(instructions.len()));
    }
    let read = |(at, instruction): (usize, &Instruction)| operation(*instruction, at, instructions.len());
    let operations = instructions.iter().enumerate().map(read).collect::<Result<Box<[_]>, _>>()?;
    match operations.last() {
        Some(Operation::ReturnConstant(_) | Operation::ReturnA) => Ok(operations),
        Some(_) => Err(Invalid::NoReturn),
        None => Err(Invalid::Empty),
    }
}

/// The instruction at place `at` of a program of so many.
fn operation(instruction: Instruction, at: usize, len: usize) -> Result<Operation, Invalid> {
    let Instruction { code, jt, jf, k } = instruction;
    let unknown = Invalid::Unknown { at, code };
    let word =
        || if (k as usize) < MEMORY { Ok(k as usize) } else { Err(Invalid::NoSuchWord { at, word: k }) };
    let target = |skip: u32| match usize::try_from(skip).ok().and_then(|skip| (at + 1).checked_add(skip)) {
        Some(to) if to < len => Ok(to),
        _ => Err(Invalid::Beyond { at }),
    };
    let operand = if code & BY_X == 0 { Operand::Constant(k) } else { Operand::X };
    Ok(match (code & 7, code & !7) {
        (class::LD, mode) => Operation::LoadA(match mode {
            0x00 => Source::Constant(k),
            0x20 => Source::At(k, Width::Word),
            0x28 => Source::At(k, Width::Half),
            0x30 => Source::At(k, Width::Byte),
            0x40 => Source::BehindX(k, Width::Word),
            0x48 => Source::BehindX(k, Width::Half),
            0x50 => Source::BehindX(k, Width::Byte),
            0x60 => Source::Memory(word()?),
            0x80 => Source::Len,
            _ => return Err(unknown),
        }),
        (class::LDX, mode) => Operation::LoadX(match mode {
            0x00 => Source::Constant(k),
            0x60 => Source::Memory(word()?),
            0x80 => Source::Len,
            0xb0 => Source::HeaderLen(k),
            _ => return Err(unknown),
        }),
        (class::ST, 0) => Operation::StoreA(word()?),
        (class::STX, 0) => Operation::StoreX(word()?),
        (class::ALU, 0x80) => Operation::Negate,
        (class::ALU, what) => {
            Operation::Compute(arithmetic(what & !BY_X, operand, at).unwrap_or(Err(unknown))?, operand)
        }
        (class::JMP, 0) => Operation::Jump(target(k)?),
        (class::JMP, what) => Operation::Branch {
            condition: condition(what & !BY_X).ok_or(unknown)?,
            operand,
            then: target(jt.into())?,
            otherwise: target(jf.into())?,
        },
        (class::RET, 0x00) => Operation::ReturnConstant(k),
        (class::RET, 0x10) => Operation::ReturnA,
        (7, 0x00) => Operation::AToX,
        (7, 0x80) => Operation::XToA,
        _ => return Err(unknown),
    })
}

/// What the code says is done with this operand; `None` for no known code.
fn arithmetic(code: u16, operand: Operand, at: usize) -> Option<Result<Arithmetic, Invalid>> {
    let divides = |arithmetic| match operand {
        Operand::Constant(0) => Err(Invalid::DivisionByZero { at }),
        _ => Ok(arithmetic),
    };
    let shifts = |arithmetic| match operand {
        Operand::Constant(by) if by >= u32::BITS => Err(Invalid::Shift { at, by }),
        _ => Ok(arithmetic),
    };
    Some(match code {
        0x00 => Ok(Arithmetic::Add),
        0x10 => Ok(Arithmetic::Sub),
        0x20 => Ok(Arithmetic::Mul),
        0x30 => divides(Arithmetic::Div),
        0x40 => Ok(Arithmetic::Or),
        0x50 => Ok(Arithmetic::And),
        0x60 => shifts(Arithmetic::ShiftLeft),
        0x70 => shifts(Arithmetic::ShiftRight),
        0x90 => divides(Arithmetic::Mod),
        0xa0 => Ok(Arithmetic::Xor),
        _ => return None,
    })
}

fn condition(code: u16) -> Option<Condition> {
    Some(match code {
        0x10 => Condition::Equal,
        0x20 => Condition::Greater,
        0x30 => Condition::GreaterOrEqual,
        0x40 => Condition::AnyBit,
        _ => return None,
    })
}
