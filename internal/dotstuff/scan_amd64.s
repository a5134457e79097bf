//go:build !purego

#include "textflag.h"

// PAIRS sets in x those of the 16 octets from b[i+at] on that are a dot with an LF before it. It spoils y.
#define PAIRS(at, x, y) \
	MOVOU (at-1)(SI)(BX*1), x; \
	MOVOU at(SI)(BX*1), y; \
	PCMPEQB X8, x; \
	PCMPEQB X9, y; \
	PAND y, x

// func skipToPair(b []byte, i int) int
//
// SSE2, which every amd64 has: 64 octets a step as long as there is no pair, then 16.
TEXT ·skipToPair(SB), NOSPLIT, $0-40
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), CX
	MOVQ i+24(FP), BX
	MOVQ $0x0a0a0a0a0a0a0a0a, AX // LF
	MOVQ AX, X8
	PUNPCKLQDQ X8, X8
	MOVQ $0x2e2e2e2e2e2e2e2e, AX // dot
	MOVQ AX, X9
	PUNPCKLQDQ X9, X9
	LEAQ -64(CX), DX
	SUBQ $16, CX
	JMP  enter64

loop64:
	PAIRS(0, X0, X1)
	PAIRS(16, X2, X3)
	PAIRS(32, X4, X5)
	PAIRS(48, X6, X7)
	POR  X2, X0
	POR  X6, X4
	POR  X4, X0
	PMOVMSKB X0, AX
	TESTL AX, AX
	JNE  enter16
	ADDQ $64, BX
enter64:
	CMPQ BX, DX
	JLE  loop64
	JMP  enter16

loop16:
	PAIRS(0, X0, X1)
	PMOVMSKB X0, AX
	TESTL AX, AX
	JNE  found
	ADDQ $16, BX
enter16:
	CMPQ BX, CX
	JLE  loop16
	MOVQ BX, ret+32(FP)
	RET

found:
	BSFL AX, AX
	ADDQ AX, BX
	MOVQ BX, ret+32(FP)
	RET
