/* A PKCS#11 module for tests: SoftHSM with faults put in between, for what SoftHSM itself never does.
 *
 * Defined when it is compiled: MODULE, the real module, and CALLS, a file that every call's name is appended to.
 * In the environment:
 *   SHIM_FLAGS  bits to set in CK_TOKEN_INFO's flags
 *   SHIM_LOGIN  what C_Login answers instead of asking the module
 *   SHIM_HANG   a call that never returns: C_Initialize, C_GetSlotList, C_Login, C_DeriveKey or C_Sign
 *   SHIM_LACKS  mechanisms that C_GetMechanismList leaves out: numbers, separated by commas
 *   SHIM_CLEARS bits to clear in CK_TOKEN_INFO's flags
 *   SHIM_TOKEN  how CK_TOKEN_INFO departs from the standard: "clock" has a malformed utcTime, "text" ends strings with NUL,
 *               "lengths" does not know the lengths of PINs
 *   SHIM_MALFORMED  the slot whose C_GetTokenInfo fails with CKR_GENERAL_ERROR: "second" of the slot list
 *   SHIM_SESSIONS   "rw": there are no read-only sessions
 *   SHIM_POINT  "der": C_DeriveKey wants the point in a DER OCTET STRING
 *   SHIM_REFUSES    an attribute that no template of a key may name
 *   SHIM_ACTIVE a decryption that fails stays active until the module is finalised
 *   SHIM_WRAPS  C_WrapKey wraps what may not be wrapped
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long rv;
typedef struct {
    unsigned char version[2];
    void *calls[68];
} list;
typedef struct {
    char label[32], manufacturer[32], model[16], serial[16];
    unsigned long flags, sessions[4], pin_lengths[2], memory[4];
    unsigned char versions[4];
    char utc_time[16];
} token_info;
typedef struct {
    unsigned long type;
    void *value;
    unsigned long length;
} attribute;
typedef struct {
    unsigned long kdf, shared_length;
    void *shared;
    unsigned long length;
    unsigned char *point;
} ecdh;
typedef struct {
    unsigned long type;
    ecdh *parameter;
    unsigned long length;
} mechanism;

enum { GENERAL_ERROR = 0x5, ATTRIBUTE_VALUE_INVALID = 0x13, MECHANISM_PARAM_INVALID = 0x71, OPERATION_ACTIVE = 0x90, SESSION_READ_ONLY = 0xb5 };

/* Places in CK_FUNCTION_LIST. */
enum { INITIALIZE = 0, FINALIZE = 1, SLOT_LIST = 4, TOKEN_INFO = 6, MECHANISM_LIST = 7, OPEN_SESSION = 12, LOGIN = 18, GET_ATTRIBUTE = 24,
       FIND_INIT = 26, DECRYPT_INIT = 33, DECRYPT = 34, SIGN = 43, GENERATE = 58, GENERATE_PAIR = 59, WRAP = 60, DERIVE = 62 };

static list *real, ours;

static void note(const char *call) {
    FILE *file = fopen(CALLS, "a");
    if (file) {
        fprintf(file, "%s\n", call);
        fclose(file);
    }
}

static void hang(const char *call) {
    const char *hung = getenv("SHIM_HANG");
    while (hung && strcmp(hung, call) == 0)
        pause();
}

static int is(const char *variable, const char *value) {
    const char *set = getenv(variable);
    return set && strcmp(set, value) == 0;
}

#define REAL(place, ...) ((rv(*)())real->calls[place])(__VA_ARGS__)

static rv initialize(void *a) { note("C_Initialize"); hang("C_Initialize"); return REAL(INITIALIZE, a); }
static int active;

static rv finalize(void *a) { active = 0; note("C_Finalize"); return REAL(FINALIZE, a); }
static rv slot_list(unsigned char a, void *b, void *c) { note("C_GetSlotList"); hang("C_GetSlotList"); return REAL(SLOT_LIST, a, b, c); }
static rv find_init(rv a, void *b, rv c) { note("C_FindObjectsInit"); return REAL(FIND_INIT, a, b, c); }
static rv get_attribute(rv a, rv b, void *c, rv d) { note("C_GetAttributeValue"); return REAL(GET_ATTRIBUTE, a, b, c, d); }

static rv open_session(rv a, rv b, void *c, void *d, void *e) {
    note("C_OpenSession");
    if (is("SHIM_SESSIONS", "rw") && !(b & 2))
        return SESSION_READ_ONLY;
    return REAL(OPEN_SESSION, a, b, c, d, e);
}

static rv derive(rv a, mechanism *b, rv c, void *d, rv e, void *f) {
    note("C_DeriveKey");
    hang("C_DeriveKey");
    if (!is("SHIM_POINT", "der"))
        return REAL(DERIVE, a, b, c, d, e, f);
    ecdh parameter = *b->parameter;
    if (parameter.point[1] != parameter.length - 2)
        return MECHANISM_PARAM_INVALID;
    parameter.point += 2;
    parameter.length -= 2;
    mechanism raw = {b->type, &parameter, sizeof parameter};
    return REAL(DERIVE, a, &raw, c, d, e, f);
}

static int is_refused(attribute *template, rv count) {
    const char *refused = getenv("SHIM_REFUSES");
    for (rv i = 0; refused && i < count; i++)
        if (template[i].type == strtoul(refused, NULL, 0))
            return 1;
    return 0;
}

static rv generate(rv a, void *b, attribute *c, rv d, void *e) {
    note("C_GenerateKey");
    return is_refused(c, d) ? ATTRIBUTE_VALUE_INVALID : REAL(GENERATE, a, b, c, d, e);
}

static rv generate_pair(rv a, void *b, attribute *c, rv d, attribute *e, rv f, void *g, void *h) {
    note("C_GenerateKeyPair");
    return is_refused(c, d) || is_refused(e, f) ? ATTRIBUTE_VALUE_INVALID : REAL(GENERATE_PAIR, a, b, c, d, e, f, g, h);
}

static rv wrap(rv a, void *b, rv c, rv d, void *e, rv *f) {
    note("C_WrapKey");
    if (!getenv("SHIM_WRAPS"))
        return REAL(WRAP, a, b, c, d, e, f);
    if (e)
        memset(e, 1, 40);
    *f = 40;
    return 0;
}

static rv get_token_info(rv slot, token_info *info) {
    note("C_GetTokenInfo");
    const char *flags = getenv("SHIM_FLAGS"), *cleared = getenv("SHIM_CLEARS");
    rv slots[2], count = 2;
    if (is("SHIM_MALFORMED", "second") && REAL(SLOT_LIST, 1, slots, &count) == 0 && count == 2 && slots[1] == slot)
        return GENERAL_ERROR;
    rv answer = REAL(TOKEN_INFO, slot, info);
    if (answer != 0)
        return answer;
    info->flags |= flags ? strtoul(flags, NULL, 0) : 0;
    info->flags &= cleared ? ~strtoul(cleared, NULL, 0) : ~0UL;
    if (is("SHIM_TOKEN", "clock")) {
        info->flags |= 0x40;
        memcpy(info->utc_time, "\0\0no time at all", 16);
    }
    if (is("SHIM_TOKEN", "text")) {
        memcpy(info->model, "SW   TPM\0\0\0\0\0\0\0\1", 16);
        memcpy(info->serial, "12\033[31m3\0\0\0\0\0\0\0\0", 16);
    }
    if (is("SHIM_TOKEN", "lengths"))
        info->pin_lengths[0] = info->pin_lengths[1] = ~0UL;
    return 0;
}

static rv mechanism_list(rv slot, rv *mechanisms, rv *count) {
    note("C_GetMechanismList");
    rv answer = REAL(MECHANISM_LIST, slot, mechanisms, count), kept = 0;
    const char *lacks = getenv("SHIM_LACKS");
    if (answer != 0 || !mechanisms || !lacks)
        return answer;
    for (rv i = 0; i < *count; i++) {
        char *next = (char *)lacks;
        int lacking = 0;
        do
            lacking |= mechanisms[i] == strtoul(next, &next, 0);
        while (*next++ == ',');
        if (!lacking)
            mechanisms[kept++] = mechanisms[i];
    }
    *count = kept;
    return 0;
}

static rv login(rv session, rv user, void *pin, rv length) {
    note(pin ? "C_Login" : "C_Login without a PIN");
    hang("C_Login");
    const char *answer = getenv("SHIM_LOGIN");
    return answer ? strtoul(answer, NULL, 0) : REAL(LOGIN, session, user, pin, length);
}

static rv decrypt_init(rv a, void *b, rv c) {
    return active ? OPERATION_ACTIVE : REAL(DECRYPT_INIT, a, b, c);
}

static rv decrypt(rv a, void *b, rv c, void *d, void *e) {
    rv answer = REAL(DECRYPT, a, b, c, d, e);
    active = answer != 0 && getenv("SHIM_ACTIVE");
    return answer;
}

static rv sign(rv a, void *b, rv c, void *d, void *e) {
    note("C_Sign");
    hang("C_Sign");
    return REAL(SIGN, a, b, c, d, e);
}

rv C_GetFunctionList(list **out) {
    void *module = dlopen(MODULE, RTLD_NOW);
    rv (*get)(list **) = module ? (rv(*)(list **))dlsym(module, "C_GetFunctionList") : NULL;
    if (!get || get(&real) != 0)
        return 5;
    ours = *real;
    ours.calls[INITIALIZE] = initialize;
    ours.calls[FINALIZE] = finalize;
    ours.calls[SLOT_LIST] = slot_list;
    ours.calls[TOKEN_INFO] = get_token_info;
    ours.calls[MECHANISM_LIST] = mechanism_list;
    ours.calls[OPEN_SESSION] = open_session;
    ours.calls[LOGIN] = login;
    ours.calls[GET_ATTRIBUTE] = get_attribute;
    ours.calls[FIND_INIT] = find_init;
    ours.calls[SIGN] = sign;
    ours.calls[DERIVE] = derive;
    ours.calls[GENERATE] = generate;
    ours.calls[GENERATE_PAIR] = generate_pair;
    ours.calls[WRAP] = wrap;
    ours.calls[DECRYPT_INIT] = decrypt_init;
    ours.calls[DECRYPT] = decrypt;
    *out = &ours;
    return 0;
}
