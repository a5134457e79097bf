//go:build !purego

#include "textflag.h"

// FILL sets both words of x to value. AX is scratch.
#define FILL(value, x) \
	MOVQ value, AX; \
	MOVQ AX, x; \
	PUNPCKLQDQ x, x

// PAIRS finds the dots after an LF among the 16 bytes at from(SI). Before, x contains the 16 bytes that begin one byte
// earlier; afterwards it is ones where such a dot is. y is scratch.
#define PAIRS(from, x, y) \
	MOVOU from(SI), y; \
	PCMPEQB X8, x; \
	PCMPEQB X9, y; \
	PAND y, x

// PAIRS64 sets AX to 0, and the zero flag, unless the 64 bytes at (SI) contain a dot after an LF. X0 contains the 16 bytes
// at -1(SI). X1 to X7 are scratch.
#define PAIRS64 \
	PAIRS(0, X0, X1); \
	MOVOU 15(SI), X2; \
	PAIRS(16, X2, X3); \
	MOVOU 31(SI), X4; \
	PAIRS(32, X4, X5); \
	MOVOU 47(SI), X6; \
	PAIRS(48, X6, X7); \
	POR  X2, X0; \
	POR  X6, X4; \
	POR  X4, X0; \
	PMOVMSKB X0, AX; \
	TESTL AX, AX

// REMOVE takes a byte out of each word of X3, and moves the bytes after it down. It is the byte whose lowest bit is the
// only one set in the same word of mark; if that word is 0, none is taken out. X7 is scratch.
#define REMOVE(mark) \
	PSUBQ X12, mark; /* ones in the bytes before it */ \
	MOVO  X3, X7; \
	PSRLQ $8, X3; \
	PXOR  X3, X7; \
	PAND  mark, X7; \
	PXOR  X7, X3

// func unstuff(b []byte, d, s int) (text, used int, before uint16)
//
// It needs only SSE2, which every amd64 has. Apart from the terminator, only one branch depends on the data: 64 bytes
// without a dot after an LF take less time.
//
// SI and DI point to b[s] and b[d], R8 to where 64 bytes are searched at once again. X13 and X14 contain the 16 bytes at
// -2(SI) and -1(SI) as they were: the ones before SI may be overwritten.
TEXT ·unstuff(SB), NOSPLIT, $0-58
	MOVQ b_base+0(FP), BX
	MOVQ b_len+8(FP), CX
	MOVQ d+24(FP), DI
	MOVQ s+32(FP), SI
	ADDQ BX, CX
	ADDQ BX, DI
	ADDQ BX, SI
	LEAQ -80(CX), DX // the last SI where 79(SI) can be read
	SUBQ $32, CX // the last SI where 31(SI) can be read
	MOVWLZX -2(SI), AX
	MOVQ AX, X13
	CMPQ SI, CX
	JHI  done
	FILL($0x0a0a0a0a0a0a0a0a, X8)  // LF
	FILL($0x2e2e2e2e2e2e2e2e, X9)  // dot
	FILL($0x0d0d0d0d0d0d0d0d, X10) // CR
	FILL($0x0101010101010101, X11)
	FILL($1, X12)
	MOVOU -2(SI), X13
	MOVOU -1(SI), X14

next64:
	LEAQ 64(SI), R8
	CMPQ SI, DX
	JHI  next16
	MOVO X14, X0
	PAIRS64
	JNE  next16
	CMPQ SI, DI
	JEQ  skip64

	MOVOU 62(SI), X13
	MOVOU 63(SI), X14
	MOVOU (SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVOU X0, (DI)
	MOVOU X1, 16(DI)
	MOVOU X2, 32(DI)
	MOVOU X3, 48(DI)
	ADDQ $64, SI
	ADDQ $64, DI
	JMP  next64

skip64: // nothing has been removed yet: the bytes stay where they are
	ADDQ $63, SI
	ANDQ $~15, SI
	INCQ SI // 64 bytes further, or as many as align -1(SI)
	CMPQ SI, DX
	JHI  skipped
	MOVOU -1(SI), X0
	PAIRS64
	JEQ  skip64
skipped:
	MOVQ SI, DI
	MOVOU -2(SI), X13
	MOVOU -1(SI), X14
	LEAQ 64(SI), R8

next16:
	CMPQ SI, CX
	JHI  done
	MOVO X13, X0
	MOVO X14, X1
	MOVOU (SI), X3
	MOVOU 1(SI), X4
	MOVOU 2(SI), X6
	MOVO X3, X2
	MOVO X4, X5
	PCMPEQB X10, X0
	PCMPEQB X8, X1
	PCMPEQB X9, X2
	PAND X1, X0
	PAND X2, X0 // dots at the start of a line
	PCMPEQB X10, X5
	PCMPEQB X8, X6
	PAND X0, X5
	PAND X6, X5 // and before CRLF: the terminator
	PMOVMSKB X5, AX
	TESTL AX, AX
	JNE  done
	MOVOU 14(SI), X13
	MOVOU 15(SI), X14

	PCMPEQB X9, X4
	PAND X0, X4
	PAND X11, X4 // 1 for a stuffed dot; two in a word at most, because they are at least four bytes apart
	PXOR X5, X5
	PSADBW X4, X5 // how many in each word
	MOVO X4, X6
	PSUBQ X12, X6
	PAND X4, X6 // the second one in each word
	PXOR X6, X4 // the first one
	REMOVE(X6)
	REMOVE(X4)
	MOVQ X5, AX
	PEXTRW $4, X5, BX
	MOVQ X3, (DI)
	SUBQ AX, DI
	MOVHPS X3, 8(DI)
	SUBQ BX, DI
	ADDQ $16, DI
	ADDQ $16, SI
	CMPQ SI, R8
	JCS  next16
	JMP  next64

done:
	MOVQ b_base+0(FP), BX
	SUBQ BX, DI
	SUBQ BX, SI
	MOVQ X13, AX
	MOVQ DI, text+40(FP)
	MOVQ SI, used+48(FP)
	MOVW AX, before+56(FP)
	RET
