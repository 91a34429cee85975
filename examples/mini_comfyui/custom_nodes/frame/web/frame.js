import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

app.registerExtension({
  name: "mini.frame",
  commands: [
    {
      id: "mini.frame.colors",
      label: "Show frame colors",
      function: async () => {
        const colors = await (await api.fetchApi("/frame/colors")).json();
        app.extensionManager.toast.add({ severity: "info", summary: colors.join(", "), life: 3000 });
      },
    },
  ],
});
