/* SPDX-License-Identifier: Apache-2.0
 *
 * A plan as tables for people: one device in full, several as one line each.
 */
#include "plan.h"

#include <string.h>

void cli_plan_show(const cli_plan_answer *plan)
{
    for (int i = 0; i < plan->device_count; i++)
        printf("%s: %s\n", plan->devices[i].machine.name, plan->devices[i].verdict);
}
